"""Sizes of circuits by model, task, target loss and method: rows on disk, and two models compared."""

import dataclasses
import os
from collections.abc import Iterable, Sequence

from sparse_jax.faithfulness.intervals import Interval, geometric_mean
from sparse_jax.files import append_lines, json_lines, user_path
from sparse_jax.inputs import InputError, from_mapping
from sparse_jax.runtime.writers import read_rows

MODELS = ("sparse", "dense")
REACHED, MISSED, BEYOND = "reached", "missed", "beyond the model"
# "nodes" and "edges" are learned gates, on nodes only or also on edges; the others are rankings of nodes.
LEARNED = ("nodes", "edges")


@dataclasses.dataclass(frozen=True)
class SizeRow:
    """The circuit of one model for one task at one target loss, found by one method.

    outcome: "reached", or "missed" (with the sizes of the closest circuit, or without sizes if every pruning
    broke down), on the validation split; "beyond the model" if the full model misses the target there
    (without sizes). discretized_*: sizes before elimination. Losses in nats: of the full model and the
    circuit on the validation split, and of the circuit on the test split, with standard errors over pairs.
    prunings: how many the circuit was chosen from.
    """

    model: str
    task: str
    target: float
    method: str
    outcome: str
    unpruned: float
    nodes: int | None = None
    edges: int | None = None
    discretized_nodes: int | None = None
    discretized_edges: int | None = None
    validation: float | None = None
    validation_error: float | None = None
    test: float | None = None
    test_error: float | None = None
    prunings: int = 0

    @property
    def key(self) -> tuple[str, str, float, str]:
        """Identifies the row: model, task, target loss, method."""
        return self.model, self.task, self.target, self.method


class SizeRows:
    """Rows in a JSON-lines file, each written as soon as it is added; existing rows are kept."""

    def __init__(self, path: str | os.PathLike):
        self._path = user_path(path)
        try:
            self.rows = [from_mapping(SizeRow, row, "row") for row in read_rows(self._path)]
        except InputError as error:
            raise InputError(f"{self._path}: {error}") from None
        self._keys = {row.key for row in self.rows}

    def __contains__(self, key: tuple[str, str, float, str]) -> bool:
        return key in self._keys

    def append(self, row: SizeRow) -> None:
        """Adds a row; a last line cut off by a kill is removed first."""
        if row.key in self._keys:
            raise ValueError(f"{row.key} is there already")
        append_lines(self._path, json_lines([dataclasses.asdict(row)]))
        self.rows.append(row)
        self._keys.add(row.key)


@dataclasses.dataclass(frozen=True)
class SizeComparison:
    """Both models at one target loss by one method, over the tasks that both have a circuit for.

    tasks: those tasks; left_out: the others, each with the reason. sparse, dense: geometric means of edges.
    ratio: dense edges per sparse edge. A circuit without edges counts as one edge (a geometric mean needs
    positive numbers, and leaving the task out would hide that the model does it without any edge);
    `ratio_of_nonzero` leaves such tasks out. None if no task is left. within_target: for each model, the
    number of tasks whose loss on the test split is within the target.
    """

    method: str
    target: float
    tasks: tuple[str, ...]
    left_out: dict[str, str]
    zero_edges: dict[str, tuple[str, ...]]
    sparse: Interval | None
    dense: Interval | None
    ratio: Interval | None
    ratio_of_nonzero: Interval | None
    within_target: dict[str, int]

    def plain(self) -> dict[str, object]:
        """In a form for JSON; an interval is {value, low, high}."""
        fields = {name: getattr(self, name) for name in (f.name for f in dataclasses.fields(self))}
        return {n: v._asdict() if isinstance(v, Interval) else v for n, v in fields.items()}


def compare_sizes(rows: Iterable[SizeRow], method: str, target: float, seed: int = 0) -> SizeComparison:
    """Compares the models at `target` by `method`."""
    sides = {model: {} for model in MODELS}
    for row in rows:
        if (row.method, row.target) == (method, target):
            sides[row.model][row.task] = row
    names = list(dict.fromkeys(name for side in sides.values() for name in side))
    reasons = {name: _why_left_out(name, sides) for name in names}
    tasks = tuple(name for name in names if reasons[name] is None)
    edges = {model: [sides[model][name].edges for name in tasks] for model in MODELS}
    nonzero = [i for i in range(len(tasks)) if all(edges[model][i] for model in MODELS)]
    ratios = [max(d, 1) / max(s, 1) for s, d in zip(edges["sparse"], edges["dense"], strict=True)]

    def mean(values: Sequence[float]) -> Interval | None:
        return geometric_mean(values, seed=seed) if values else None

    return SizeComparison(
        method=method,
        target=target,
        tasks=tasks,
        left_out={name: reason for name, reason in reasons.items() if reason},
        zero_edges={m: tuple(n for n, count in zip(tasks, edges[m]) if count == 0) for m in MODELS},
        sparse=mean([max(count, 1) for count in edges["sparse"]]),
        dense=mean([max(count, 1) for count in edges["dense"]]),
        ratio=mean(ratios),
        ratio_of_nonzero=mean([ratios[i] for i in nonzero]),
        within_target={m: sum(sides[m][name].test <= target for name in tasks) for m in MODELS},
    )


def _why_left_out(task: str, sides: dict[str, dict[str, SizeRow]]) -> str | None:
    reasons = []
    for model in MODELS:
        row = sides[model].get(task)
        if row is None:
            reasons.append(f"{model}: not yet run")
        elif row.outcome == BEYOND:
            reasons.append(f"{model}: full model at {row.unpruned:.3f}")
        elif row.nodes is None:
            reasons.append(f"{model}: every pruning broke down")
        elif row.outcome == MISSED:
            reasons.append(f"{model}: best circuit at {row.validation:.3f}")
    return "; ".join(reasons) or None
