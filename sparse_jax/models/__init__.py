"""Trained models and their file formats."""
