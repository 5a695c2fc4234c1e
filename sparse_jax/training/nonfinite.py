"""Batches whose loss or gradients are not finite: kept for study, and skipped where the config allows it."""

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np

from sparse_jax.files import write_whole
from sparse_jax.runtime.processes import is_first


class NonFiniteError(RuntimeError):
    """A loss or gradient that is not finite; says at which step, and the last good checkpoint."""


class BadBatches:
    """Counts and keeps them under `<workdir>/nonfinite/batch_<number>.npz`.

    A file holds `tokens` [B, T + 1], `rows` [B] (their places in the order in which rows are read), `batch`
    (its number), `step` (the one that it would have been), `loss` and `gradient_norm`.
    """

    def __init__(self, workdir: Path, allowed: int, count: int, read: Callable[[int], np.ndarray]):
        """allowed: how many a run may skip; `count` are skipped. read: the tokens [B, T + 1] of a batch."""
        self._directory, self._allowed, self._read = workdir / "nonfinite", allowed, read
        self.count = count

    def add(self, batch: int, step: int, loss: float, gradient_norm: float) -> None:
        """Keeps batch number `batch`. Raises NonFiniteError if it is one more than allowed."""
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
                f"{self.count} would go on without it"
            )
