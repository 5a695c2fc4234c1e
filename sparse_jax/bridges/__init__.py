"""Bridges between the residual streams of a sparse and a dense model, and steering through them."""
