"""Sparse circuits against dense ones, task by task: rows of a table, and the table as text."""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from sparse_jax.circuits.graph import Circuit


@dataclasses.dataclass(frozen=True)
class Side:
    """One model's circuit for one task: losses on the test split in nats, sizes, target reached or not."""

    unpruned: float
    circuit: float
    calibrated: float
    nodes: int
    edges: int
    reached: bool


@dataclasses.dataclass(frozen=True)
class Row:
    """A task, or the geometric mean over tasks; a side is None where that model cannot do the task."""

    task: str
    sparse: Side | None
    dense: Side | None

    @property
    def ratio(self) -> float | None:
        """Dense edges for every sparse one; None where a circuit misses the target or has no edge."""
        sides = (self.sparse, self.dense)
        if any(side is None or not side.reached or side.edges == 0 for side in sides):
            return None
        return self.dense.edges / self.sparse.edges


def side(circuit: Circuit) -> Side:
    """The figures of one circuit."""
    losses = circuit.losses
    return Side(
        losses["unpruned"],
        losses["circuit"],
        losses["calibrated"],
        circuit.counts["nodes"],
        circuit.counts["edges"],
        bool(circuit.provenance["reached"]),
    )


def compare(sparse: Mapping[str, Circuit], dense: Mapping[str, Circuit]) -> list[Row]:
    """A row per task of either model, then the geometric mean over the tasks that both reach."""
    names = list(dict.fromkeys([*sparse, *dense]))
    rows = [Row(name, _side_of(sparse, name), _side_of(dense, name)) for name in names]
    both = [row for row in rows if row.ratio is not None]
    if both:
        rows.append(
            Row(f"geometric mean ({len(both)})", *(_mean(both, which) for which in ("sparse", "dense")))
        )
    return rows


def _side_of(circuits: Mapping[str, Circuit], name: str) -> Side | None:
    return side(circuits[name]) if name in circuits else None


def _mean(rows: Sequence[Row], which: str) -> Side:
    """Geometric means of sizes (METHOD 7), arithmetic means of losses."""
    sides = [getattr(row, which) for row in rows]

    def geometric(name: str) -> int:
        return round(float(np.exp(np.mean([np.log(getattr(one, name)) for one in sides]))))

    def mean(name: str) -> float:
        return float(np.mean([getattr(one, name) for one in sides]))

    losses = (mean("unpruned"), mean("circuit"), mean("calibrated"))
    return Side(*losses, geometric("nodes"), geometric("edges"), True)


HEADER = f"{'':<24}{'---------- sparse ----------':^34}{'---------- dense -----------':^34}{'dense /':>8}"
COLUMNS = "".join(f"{name:>9}{'circuit':>9}{'nodes':>7}{'edges':>8} " for name in ("unpruned",) * 2)


def format_table(rows: Sequence[Row]) -> str:
    """The table as plain text; "-" where there is nothing, "*" at a circuit that misses the target."""
    lines = [HEADER, f"{'task':<24}{COLUMNS}{'sparse':>8}"]
    for row in rows:
        ratio = "-" if row.ratio is None else f"{row.ratio:.1f}"
        lines.append(f"{row.task:<24}{_cells(row.sparse)}{_cells(row.dense)}{ratio:>8}")
    return "\n".join(lines)


def _cells(one: Side | None) -> str:
    if one is None:
        return f"{'-':>9}{'-':>9}{'-':>7}{'-':>8} "
    star = " " if one.reached else "*"
    return f"{one.unpruned:>9.3f}{one.circuit:>9.3f}{one.nodes:>7,}{one.edges:>8,}{star}"
