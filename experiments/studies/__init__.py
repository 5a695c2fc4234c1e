"""Code that only studies use: tables, figures, resumable rows."""
