"""Benchmarks: each prints JSON lines with the numbers of this machine."""
