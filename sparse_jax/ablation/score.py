"""Measures a model on tasks: a score, or one row of metrics per task and the rows as a table."""

import dataclasses
import html
import math
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from sparse_jax.ablation.objective import last_logits
from sparse_jax.inputs import require
from sparse_jax.model.config import ModelConfig
from sparse_jax.model.forward import Params
from sparse_jax.models.model import Model
from sparse_jax.phrases import counted
from sparse_jax.progress import Progress
from sparse_jax.tasks.encode import EncodedPairs, check_pairs
from sparse_jax.tasks.metrics import METRICS, summarize

BATCH = 32  # pairs
TARGET = 0.15  # nats: METHOD section 5

Row = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Score:
    """Scores of a model, or of a circuit in it, on a task: means over pairs with standard errors.

    values: by name, (mean, standard error; None for a single pair): loss in nats, accuracy, logit_difference,
    full_vocabulary_loss. found_for: the task that the circuit was found for, if it is another one.
    """

    task: str
    split: str
    pairs: int
    of: str
    values: Mapping[str, tuple[float, float | None]]
    found_for: str = ""

    @property
    def loss(self) -> float:
        """The task loss in nats; chance is ln 2 = 0.693."""
        return self.values["loss"][0]

    @property
    def accuracy(self) -> float:
        """The share of prompts answered correctly."""
        return self.values["accuracy"][0]

    def __repr__(self) -> str:
        said = ", ".join(f"{name} {_with_error(*value)}" for name, value in self.values.items())
        return f"{self.task} ({self.split}, {counted(self.pairs, 'pair')}, {self.of}): {said}"

    def _repr_html_(self) -> str:
        head = "".join(f"<th>{html.escape(name.replace('_', ' '))}</th>" for name in self.values)
        cells = "".join(f"<td>{_with_error(*value)}</td>" for value in self.values.values())
        about = html.escape(f"{self.task} ({self.split} split, {counted(self.pairs, 'pair')}, {self.of})")
        return f"<table><caption>{about}</caption><tr>{head}</tr><tr>{cells}</tr></table>"


def measure_tasks(
    model: Model,
    encoded: Mapping[str, EncodedPairs],
    split: str,
    batch: int = BATCH,
    label: str = "tasks",
) -> list[Row]:
    """Every metric of `tasks/metrics.py` on the pairs of each task, with its standard error over pairs.

    A row has task, split, pairs, tokens (of the longest prompt) and for each metric `<name>` and
    `<name>_error` (None for a single pair). The pairs of all tasks run as one list, padded to one length, in
    batches of `batch`, so that one compiled program serves them all.

    Raises InputError if there is no task, and for pairs with tokens that the model does not have.
    """
    require(len(encoded) > 0, "tasks", [], "at least one task")
    together = _concatenate(list(encoded.values()))
    check_pairs(model.config, together)
    total = len(together.tokens)
    progress = Progress(label, total, "pairs")
    parts = []
    for start in range(0, total, batch):
        done = min(start + batch, total)
        rows = np.minimum(np.arange(start, start + batch), total - 1)  # the last batch repeats the last pair
        chosen = EncodedPairs(*(array[rows] for array in together))
        values = jax.device_get(_compiled_metrics(model.config, model.params, chosen))
        parts.append({name: array[: done - start] for name, array in values.items()})
        progress.update(done)
    progress.close()
    values = {name: np.concatenate([part[name] for part in parts]) for name in METRICS}
    ends = np.cumsum([len(pairs.tokens) for pairs in encoded.values()])
    return [
        _row(name, split, pairs, {key: array[end - len(pairs.tokens) : end] for key, array in values.items()})
        for (name, pairs), end in zip(encoded.items(), ends)
    ]


def format_tasks(rows: Sequence[Row]) -> str:
    """The rows as plain text, means with their standard errors; last, how many reach the target loss."""
    width = 2 + max(len(name) for name in ("task", *(row["task"] for row in rows)))
    lines = [
        f"{'task':<{width}}{'pairs':>6}{'tokens':>7}{'loss (nats)':>17}{'accuracy':>17}"
        f"{'logit difference':>18}{'full-vocabulary loss':>22}"
    ]
    for row in rows:
        cells = (
            f"{_cell(row, 'loss'):>17}{_cell(row, 'accuracy'):>17}{_cell(row, 'logit_difference', 2):>18}"
            f"{_cell(row, 'full_vocabulary_loss'):>22}"
        )
        lines.append(f"{row['task']:<{width}}{row['pairs']:>6}{row['tokens']:>7}{cells}")
    reached = sum(row["loss"] < TARGET for row in rows)
    lines.append(f"{reached} of {len(rows)} below {TARGET} nats; chance is {math.log(2):.3f}")
    return "\n".join(lines)


def _metrics(config: ModelConfig, params: Params, pairs: EncodedPairs) -> dict[str, jax.Array]:
    logits = last_logits(config, params, {}, {}, pairs)
    return {name: metric(logits, pairs.candidates) for name, metric in METRICS.items()}


_compiled_metrics = jax.jit(_metrics, static_argnums=0)


def _concatenate(parts: Sequence[EncodedPairs]) -> EncodedPairs:
    length = max(part.tokens.shape[-1] for part in parts)
    padded = [np.pad(p.tokens, ((0, 0), (0, 0), (0, length - p.tokens.shape[-1]))) for p in parts]
    return EncodedPairs(
        np.concatenate(padded),
        np.concatenate([part.last for part in parts]),
        np.concatenate([part.candidates for part in parts]),
    )


def _row(task: str, split: str, pairs: EncodedPairs, values: Mapping[str, np.ndarray]) -> Row:
    row: Row = {"task": task, "split": split, "pairs": len(pairs.tokens), "tokens": int(pairs.last.max()) + 1}
    for name, array in values.items():
        mean, error = summarize(array)
        row[name], row[f"{name}_error"] = mean, None if math.isnan(error) else error
    return row


def _cell(row: Row, name: str, digits: int = 3) -> str:
    error = row[f"{name}_error"]
    return f"{row[name]:.{digits}f}" + ("" if error is None else f" ± {error:.{digits}f}")


def _with_error(mean: float, error: float | None) -> str:
    return f"{mean:.3f}" if error is None else f"{mean:.3f} ± {error:.3f}"
