"""Trained models, and every form that they have on disk."""
