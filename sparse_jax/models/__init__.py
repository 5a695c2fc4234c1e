"""Trained models, and every format they have on disk."""
