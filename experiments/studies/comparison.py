"""Compares sparse and dense circuits task by task: rows of a table, the table as text, ratios of edges."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from sparse_jax.circuits.graph import Circuit, load_circuit
from sparse_jax.faithfulness.intervals import geometric_mean
from sparse_jax.files import user_path
from sparse_jax.inputs import InputError, require
from sparse_jax.phrases import counted

SIDES = ("sparse", "dense")


@dataclasses.dataclass(frozen=True)
class Side:
    """One model's circuit for one task: losses in nats, sizes, and whether it reached the target.

    validation: the circuit's loss on the pairs that chose its size; the others are of the test split.

    A mean over tasks has the same fields, but its sizes need not be whole numbers.
    """

    unpruned: float
    validation: float
    circuit: float
    calibrated: float
    nodes: float
    edges: float
    reached: bool


@dataclasses.dataclass(frozen=True)
class Row:
    """A task, or the mean over tasks; a side is None if its model cannot do the task."""

    task: str
    sparse: Side | None
    dense: Side | None

    @property
    def ratio(self) -> float | None:
        """Dense edges per sparse edge; None if a circuit misses the target or has no edges."""
        sides = (self.sparse, self.dense)
        if any(side is None or not side.reached or side.edges == 0 for side in sides):
            return None
        return self.dense.edges / self.sparse.edges

    def plain(self) -> dict[str, object]:
        """In a form for JSON, with the ratio."""
        return {**dataclasses.asdict(self), "ratio": self.ratio}


@dataclasses.dataclass(frozen=True)
class Comparison:
    """A row for each task of either model, and the mean over the tasks with a ratio (None without any)."""

    rows: tuple[Row, ...]

    @property
    def counted(self) -> tuple[Row, ...]:
        """The rows that the mean is taken over."""
        return tuple(row for row in self.rows if row.ratio is not None)

    @property
    def mean(self) -> Row | None:
        """Geometric means of sizes (METHOD 7), and arithmetic means of losses."""
        if not self.counted:
            return None
        return Row(f"geometric mean ({len(self.counted)})", *(_mean(self.counted, name) for name in SIDES))


def side(circuit: Circuit) -> Side:
    """The figures of one circuit; its loss on test pairs is after calibration if the one that chose it is."""
    losses = circuit.losses
    tested = "calibrated" if circuit.calibrated else "circuit"
    return Side(
        losses["unpruned"],
        losses["validation"],
        losses[tested],
        losses["calibrated"],
        circuit.counts["nodes"],
        circuit.counts["edges"],
        bool(circuit.provenance["reached"]),
    )


def compare(names: Sequence[str], sparse: Mapping[str, Circuit], dense: Mapping[str, Circuit]) -> Comparison:
    """Puts the circuits of two models for the tasks `names` side by side."""
    return Comparison(tuple(Row(name, _side_of(sparse, name), _side_of(dense, name)) for name in names))


def read_circuits(places: Mapping[str, str]) -> list[dict[str, Circuit]]:
    """The circuits in each directory, by task.

    Raises InputError for a directory without any or with two of one task, for circuits that do not say how
    they were found, and for those that cannot be compared: of several models in one directory, or judged in
    different ways.
    """
    found = [circuits_in(user_path(place, f"--{side}"), f"--{side}") for side, place in places.items()]
    everything = [circuit for circuits in found for circuit in circuits.values()]
    judged = {_judged(circuit) for circuit in everything}
    valid = "one target, objective, ablation and confidence, all or none calibrated"
    require(len(judged) == 1, "circuits", sorted(judged), valid)
    return found


def circuits_in(place: Path, name: str) -> dict[str, Circuit]:
    """The circuits of one model in a directory, by task. Raises InputError naming the flag `name`."""
    circuits: dict[str, Circuit] = {}
    for path in sorted(place.glob("*.json")):
        circuit = load_circuit(path)
        said = {"task", "weights", "pruning"} <= set(circuit.provenance)
        require(said, name, str(path), "circuits with task, weights and pruning, as experiments.prune writes")
        task = circuit.provenance["task"]
        if task in circuits:
            raise InputError(f"{name}: {path} is a second circuit for {task}; valid: one for each task")
        circuits[task] = circuit
    require(len(circuits) > 0, name, str(place), "a directory with circuits as JSON")
    models = {circuit.provenance["weights"] for circuit in circuits.values()}
    require(len(models) == 1, name, f"circuits of {len(models)} models", "circuits of one model")
    return circuits


def _judged(circuit: Circuit) -> str:
    settings = circuit.provenance["pruning"]
    names = ("target_loss", "objective", "ablation", "confidence")
    said = [f"{name}={settings[name]}" for name in names]
    return ", ".join([*said, f"calibrated={circuit.calibrated}"])


def _side_of(circuits: Mapping[str, Circuit], name: str) -> Side | None:
    return side(circuits[name]) if name in circuits else None


def _mean(rows: Sequence[Row], name: str) -> Side:
    sides = [getattr(row, name) for row in rows]

    def geometric(field: str) -> float:
        return float(np.exp(np.mean([np.log(getattr(one, field)) for one in sides])))

    def mean(field: str) -> float:
        return float(np.mean([getattr(one, field) for one in sides]))

    losses = (mean(field) for field in ("unpruned", "validation", "circuit", "calibrated"))
    return Side(*losses, geometric("nodes"), geometric("edges"), True)


HEADER = "".join(f"{f'----------- {side} -----------':^41}" for side in SIDES) + f"{'dense /':>8}"
COLUMNS = f"{'full':>8}{'valid.':>9}{'test':>8}{'nodes':>7}{'edges':>8} "
LEGEND = """losses in nats (chance: 0.693): full model on test pairs; circuit on the validation pairs that
chose its size, and on test pairs; *: missed the target on validation pairs"""


def format_table(comparison: Comparison) -> str:
    """The table as plain text; "-" where there is nothing, "*" at a circuit that misses the target."""
    rows = (*comparison.rows, *filter(None, [comparison.mean]))
    width = max(len(name) for name in ("task", *(row.task for row in rows)))
    lines = [f"{'':<{width}}{HEADER}", f"{'task':<{width}}{COLUMNS}{COLUMNS}{'sparse':>8}"]
    for row in rows:
        ratio = "-" if row.ratio is None else f"{row.ratio:.1f}"
        lines.append(f"{row.task:<{width}}{_cells(row.sparse)}{_cells(row.dense)}{ratio:>8}")
    if comparison.mean is None:
        lines.append("no mean: for no task do both models have a circuit with edges that reaches the target")
    lines.append(LEGEND)
    return "\n".join(lines)


def format_circuits(names: Sequence[str], circuits: Mapping[str, Circuit]) -> str:
    """The circuits of one model for the tasks `names` as plain text, as in a table of two models."""
    width = max(len(name) for name in ("task", *names))
    lines = [f"{name:<{width}}{_cells(_side_of(circuits, name))}" for name in names]
    return "\n".join(line.rstrip() for line in (f"{'task':<{width}}{COLUMNS}", *lines, LEGEND))


def _cells(one: Side | None) -> str:
    if one is None:
        return f"{'-':>8}{'-':>9}{'-':>8}{'-':>7}{'-':>8} "
    star = " " if one.reached else "*"
    losses = f"{one.unpruned:>8.3f}{one.validation:>9.3f}{one.circuit:>8.3f}"
    return f"{losses}{one.nodes:>7,.0f}{one.edges:>8,.0f}{star}"


def format_ratios(comparison: Comparison, target: float) -> str:
    """How many circuits are within the target on test pairs; edges of both models and their ratio.

    Over the tasks that both models reach, where a circuit without an edge counts as one of one edge, and over
    those of them where both need an edge.
    """
    both = [row for row in comparison.rows if _reached(row.sparse) and _reached(row.dense)]
    lines = [*_within(comparison, target), *_ratio(both, "that both reach, no edge counts as one")]
    needing = [row for row in both if min(row.sparse.edges, row.dense.edges) > 0]
    return "\n".join([*lines, *_ratio(needing, "where both need an edge")])


def _reached(one: Side | None) -> bool:
    return one is not None and one.reached


def _within(comparison: Comparison, target: float) -> Iterator[str]:
    for name in SIDES:
        sides = [one for row in comparison.rows if _reached(one := getattr(row, name))]
        count = sum(one.circuit <= target for one in sides)
        yield f"{name}: {count} of {len(sides)} circuits within the target are so on test pairs too"


def _ratio(rows: Sequence[Row], which: str) -> Iterator[str]:
    if rows:
        sparse, dense = ([max(1.0, getattr(row, name).edges) for row in rows] for name in SIDES)
        ratio = geometric_mean([many / few for few, many in zip(sparse, dense)]).shown(".1f")
        edges = [geometric_mean(one).shown(",.0f") for one in (sparse, dense)]
        over = counted(len(rows), "task")
        yield f"{over} {which}: edges sparse {edges[0]}, dense {edges[1]}, dense / sparse {ratio}"
