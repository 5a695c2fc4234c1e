"""Weight-sparse transformers and their circuits, in JAX."""

__version__ = "0.1.0"
