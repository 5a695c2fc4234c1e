"""Runnable studies; each script says at its top how it is called."""
