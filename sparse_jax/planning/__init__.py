"""Estimates what a run will need on machines that you do not have: memory, FLOPs, traffic, time, money."""
