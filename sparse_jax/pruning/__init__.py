"""Pruning a model to the smallest set of nodes that still performs a task (METHOD 6)."""
