"""The report: circuits, curves and tables as one HTML file that needs no network."""
