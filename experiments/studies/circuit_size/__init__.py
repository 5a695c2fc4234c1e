"""The circuit-size study: search, smallest circuits by every method, comparison, report."""
