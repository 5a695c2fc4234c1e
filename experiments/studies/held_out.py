"""Windows of text that no model was trained on."""

import numpy as np

from sparse_jax.bridges.program import mixture_of
from sparse_jax.data.corpus import Corpus
from sparse_jax.data.loader import validation_windows


def held_out_windows(corpus: Corpus, context: int, count: int) -> np.ndarray:
    """`count` windows [W, T + 1] of held-out text, of each source by its weight."""
    windows = {
        name: validation_windows(source.validation, count, context) for name, source in corpus.sources.items()
    }
    return mixture_of(windows, corpus.weights, count)
