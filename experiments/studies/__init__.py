"""What only studies use: tables, figures, resumable rows."""
