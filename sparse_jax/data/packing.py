"""Packing: windows of fixed length over the concatenated documents."""

import numpy as np

from sparse_jax.inputs import InputError, require


class Windows:
    """Window i of `tokens` [n] is tokens[i * context : i * context + context + 1].

    Neighbors share one token, the last target of one and the first input of the next, so that every
    token but the first is a target exactly once; what is left at the end is dropped.
    Raises InputError, naming `field`, if there is not one whole window.
    """

    def __init__(self, tokens: np.ndarray, context: int, field: str):
        require(context >= 1, "context", context, "at least 1")
        self._tokens, self._context = tokens, context
        if len(self) < 1:
            raise InputError(
                f"{field}: {len(tokens)} tokens are less than {context} + 1; valid: more text or less context"
            )

    def __len__(self) -> int:
        return max(0, len(self._tokens) - 1) // self._context

    def __getitem__(self, index: int) -> np.ndarray:
        start = index * self._context
        return self._tokens[start : start + self._context + 1]
