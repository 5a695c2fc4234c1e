"""Batches with a non-finite loss or gradient: saved for inspection, and skipped if the config allows it."""

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np

from sparse_jax.files import write_whole
from sparse_jax.runtime.processes import is_first


class NonFiniteError(RuntimeError):
    """The loss or a gradient is not finite; the message names the step and the last good checkpoint."""


class BadBatches:
    """Counts bad batches and saves them to `<workdir>/nonfinite/batch_<number>.npz`.

    A file holds `tokens` [B, T + 1], `rows` [B] (the indices of its rows in reading order), `batch` (its
    number), `step` (the number that the step would have had), `loss` and `gradient_norm`.
    """

    def __init__(self, workdir: Path, allowed: int, count: int, read: Callable[[int], np.ndarray]):
        """allowed: how many a run may skip. count: how many it has. read: gives a batch [B, T + 1]."""
        self._directory, self._allowed, self._read = workdir / "nonfinite", allowed, read
        self.count = count

    def add(self, batch: int, step: int, loss: float, gradient_norm: float) -> None:
        """Saves batch number `batch`. Raises NonFiniteError if it is one more than allowed."""
        path = self._directory / f"batch_{batch}.npz"
        if is_first():
            tokens = self._read(batch)
            rows = np.arange(len(tokens)) + batch * len(tokens)
            buffer = io.BytesIO()
            np.savez(
                buffer,
                tokens=tokens,
                rows=rows,
                batch=batch,
                step=step,
                loss=loss,
                gradient_norm=gradient_norm,
            )
            write_whole(path, buffer.getvalue())
        self.count += 1
        if self.count > self._allowed:
            raise NonFiniteError(
                f"training: step {step} gave loss {loss} and gradient norm {gradient_norm} on the batch in "
                f"{path}; a smaller optimizer.learning_rate may help, training.skip_nonfinite="
                f"{self.count} would skip it"
            )
