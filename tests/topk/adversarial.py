"""Numbers on which a selection by magnitude can go wrong."""

import numpy as np
from hypothesis import strategies as st

AWKWARD = [0.0, -0.0, 1.0, -1.0, 1e-45, -1e-40, 1.1754944e-38, 3.4028235e38, np.inf, -np.inf, 0.5, -0.25]

value = st.one_of(
    st.sampled_from(AWKWARD),
    st.floats(width=32, allow_nan=False),
    st.integers(-3, 3).map(float),
)


def array(shape: tuple[int, ...]):
    """Float32 arrays of `shape` with many ties, zeros, denormals and infinities."""
    size = int(np.prod(shape))
    return st.lists(value, min_size=size, max_size=size).map(lambda xs: np.float32(xs).reshape(shape))


def largest(magnitude: np.ndarray, k: int) -> np.ndarray:
    """Mask of the k largest entries of a 1-D float64 array, ties to the lowest index, by a stable sort."""
    kept = np.zeros(magnitude.shape, bool)
    kept[np.argsort(-magnitude.astype(np.float64), kind="stable")[:k]] = True
    return kept
