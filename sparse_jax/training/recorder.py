"""Records metrics during training and passes them to the writers."""

import math
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from sparse_jax.progress import Progress
from sparse_jax.runtime.processes import is_first
from sparse_jax.runtime.writers import Writer
from sparse_jax.sparsity.schedules import fraction_kept
from sparse_jax.sparsity.statistics import mask_turnover
from sparse_jax.training.config import RunConfig
from sparse_jax.training.nonfinite import BadBatches, NonFiniteError
from sparse_jax.training.optimizer import learning_rate
from sparse_jax.training.state import Position, TrainState
from sparse_jax.training.step import Metrics

# How many steps may be queued on the device while the host prepares the next.
RUN_AHEAD = 2


class Recorder:
    """Collects the metrics of steps on the device, and writes them and shows progress when asked."""

    def __init__(
        self,
        config: RunConfig,
        evaluate: Callable[[Any], dict[str, float]],
        writers: Sequence[Writer],
        label: str,
        bad: BadBatches,
        state: TrainState,
        position: Position,
    ):
        """state, position: where the run starts or resumes."""
        start = int(state.step)
        self._config, self._evaluate, self._writers, self._bad = config, evaluate, writers, bad
        self._turnover = jax.jit(mask_turnover)
        self._progress = Progress(label, config.training.steps, "steps", start, shown=is_first())
        self._pending: list[Metrics] = []
        self._rows = list(position.rows)
        self._masks = position.masks
        if self._masks is None and start > 0:
            self._masks = _copied_masks(state)
        self._evaluated = None if position.masks is not None else start
        self.ended = position.ended
        self._clock, self._clock_step = time.monotonic(), start

    def add(self, metrics: Metrics) -> None:
        """Keeps a step's metrics on the device: copying each to the host would stall the device.

        Waits until at most RUN_AHEAD steps are queued on the device.
        """
        self._pending.append(metrics)
        # A save, for example after SIGTERM, waits for all steps queued before it. With one running and one
        # queued the device is never idle; more would only make that wait longer.
        if len(self._pending) > RUN_AHEAD:
            jax.block_until_ready(self._pending[-1 - RUN_AHEAD])

    def settle(self, step: int) -> int:
        """The actual step of the state: `step` minus the batches skipped since the last call.

        Raises NonFiniteError for a batch that may not be skipped.
        """
        pending, self._pending = jax.device_get(self._pending), []
        made = step - len(pending)
        for batch, row in enumerate(pending, made + self._bad.count):
            loss, gradient_norm = float(row["loss"]), float(row["gradient_norm"])
            if row["finite"]:
                self._rows.append((loss, gradient_norm))
                made += 1
            else:
                self._bad.add(batch, made + 1, loss, gradient_norm)
        return made

    def position(self, step: int, data: dict) -> Position:
        """What to save with the state after `step` so that later rows are the same. data: of the loader."""
        masks = None if self._evaluated == step else self._masks
        return Position(data, list(self._rows), self._bad.count, masks, self.ended)

    def training(self, step: int) -> None:
        """Writes the mean metrics of the steps settled since the last call, as the row of `step`."""
        config, now = self._config, time.monotonic()
        tokens = (step - self._clock_step) * config.training.batch_size * config.model.context
        loss, gradient_norm = (float(np.mean(values)) for values in zip(*self._rows))
        self._rows = []
        rate = learning_rate(config.optimizer, config.sparsity, step - 1, config.training.steps)
        row = {
            "loss": loss,
            "gradient_norm": gradient_norm,
            "learning_rate": float(rate),
            "fraction_kept": float(fraction_kept(config.sparsity, step, config.training.steps)),
            "tokens_per_second": tokens / max(now - self._clock, 1e-9),
        }
        self._write(step, row)
        self._clock, self._clock_step = now, step
        self._progress.update(step, loss=loss)

    def evaluation(self, step: int, state: TrainState) -> None:
        """Writes what `evaluate` measures, and how many masks changed since the last call.

        From step 1 on, `ended` then says whether the loss is low enough for the run to end.

        Raises NonFiniteError if the held-out loss is not finite.
        """
        row = self._evaluate(state.params)
        masks = _copied_masks(state)
        if self._masks is not None:
            row["mask_turnover"] = float(self._turnover(self._masks, masks))
        self._masks, self._evaluated = masks, step
        self._write(step, row)
        loss, wanted = row["validation/mixture"], self._config.training.until_loss
        if not math.isfinite(loss):
            raise NonFiniteError(f"training: the held-out loss after step {step} is not finite")
        self.ended = step > 0 and wanted is not None and loss <= wanted
        self._clock = time.monotonic()

    def flush(self) -> None:
        """Rows written so far are kept, as a checkpoint of this step supposes."""
        for writer in self._writers:
            writer.flush()

    def done(self) -> None:
        """Prints that the run is complete."""
        self._progress.close()

    def _write(self, step: int, row: dict) -> None:
        for writer in self._writers:
            writer.write(step, row)


@jax.jit
def _copied(masks: object) -> object:
    """A copy on the same devices, because the next step may overwrite the arrays."""
    return jax.tree.map(jnp.copy, masks)


def _copied_masks(state: TrainState) -> object:
    """None if nothing is sparse."""
    return _copied(optax.tree.get(state.opt_state, "masks"))
