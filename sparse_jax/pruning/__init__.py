"""Pruning a model to the smallest set of nodes that still does a task (METHOD 6)."""
