"""Exact selection of the largest magnitudes by searching for the threshold, without sorting."""
