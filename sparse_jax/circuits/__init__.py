"""Circuits as plain data: nodes, edges, what they weigh and where they come from."""
