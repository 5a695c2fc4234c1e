"""The study of circuit sizes: search, smallest circuits by every method, comparison, report."""
