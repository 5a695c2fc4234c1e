"""Circuits as plain data: nodes, edges, weights and provenance."""
