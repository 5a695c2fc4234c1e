"""Removes from a circuit what it does not need, down to a local minimum (the paper did this by hand)."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from sparse_jax.ablation.judge import Judge
from sparse_jax.circuits.edges import incident_edges
from sparse_jax.circuits.gates import close
from sparse_jax.circuits.ranking import Units, number_units
from sparse_jax.progress import Progress, finish_line
from sparse_jax.trees import Arrays

# Circuits of more than MANY units first lose blocks of these sizes: removing hundreds one by one is slow.
MANY, BLOCKS = 128, (32, 8)


class Eliminated(NamedTuple):
    """What is left: 0/1 gates, and their loss with its standard error over the pairs."""

    gates: Arrays
    loss: float
    standard_error: float


class _Left(NamedTuple):
    """What is left at some point: 0/1 gates, and the losses [M] of the judge's items under them."""

    gates: Arrays
    losses_M: np.ndarray


def eliminate(
    judge: Judge, gates: Arrays, eligible: Arrays, target: float, tied: bool = True, label: str | None = None
) -> Eliminated:
    """Closes open gates among `eligible` (0/1) while the mean loss is at most `target`, to a local minimum.

    In the end no single further unit can be removed (if `tied`, a channel of q goes with that of k): each has
    been tried. Greedy: units that cost the least loss per edge saved go first. Gates that miss the
    target from the start are returned unchanged. label: of the progress; the judge's by default.
    """
    gates = {key: np.asarray(gate, np.float32) for key, gate in gates.items()}
    label = judge.label if label is None else label
    losses_M = judge.losses(gates)
    if judge.bound(losses_M[None])[0] <= target:
        judge, losses_M = judge.hardest_first(losses_M)
        left = _without_blocks(judge, _Left(gates, losses_M), eligible, target, tied, label)
        units = _open_units(left.gates, eligible, tied)
        gates, losses_M = _remove(judge, left, units, target, label)
    return Eliminated(gates, *judge.summary(losses_M))


def _open_units(gates: Arrays, eligible: Arrays, tied: bool) -> Units:
    return number_units({key: gates[key] * np.asarray(eligible[key]) for key in eligible}, tied)


def _without_blocks(
    judge: Judge, left: _Left, eligible: Arrays, target: float, tied: bool, label: str
) -> _Left:
    """Removes blocks of units with similar first-order effects on the loss; large blocks first."""
    for size in BLOCKS:
        units = _open_units(left.gates, eligible, tied)
        if units.count > MANY:
            order = np.argsort(np.abs(units.totals(judge.gradients(left.gates))), kind="stable")
            left = _remove(judge, left, units.blocks(order, size), target, label)
    return left


def _remove(judge: Judge, left: _Left, units: Units, target: float, label: str) -> _Left:
    """Removes units until none can go, in rounds: each is tried alone, then those that can go, in turn."""
    remaining = np.arange(units.count)
    bar = Progress(f"{label}: eliminate", units.count, "units", shown=bool(label))
    while len(remaining):
        order, first_1xM = _removable(judge, left, units, remaining, target)
        removals = _without_in_turn(judge, left, units, order, first_1xM, target)
        for left, removed in removals:
            remaining = np.setdiff1d(remaining, removed)
            bar.update(units.count - len(remaining), left=len(remaining), loss=_bound(judge, left))
        if not len(order):
            bar.update(units.count, left=len(remaining), loss=_bound(judge, left))
            break
    finish_line()
    return left


def _bound(judge: Judge, left: _Left) -> float:
    return float(judge.bound(left.losses_M[None])[0])


def _removable(
    judge: Judge, left: _Left, units: Units, chosen: np.ndarray, target: float
) -> tuple[np.ndarray, np.ndarray]:
    """Those of the `chosen` units that can go alone, and the losses [1, M] without the first.

    That which costs the least loss for an edge comes first.
    """
    each = np.arange(len(chosen))
    closed = np.stack([each, each + 1], axis=1)
    losses_CxM = judge.variants(left.gates, units.ranks(chosen), closed, target)
    losses_C = judge.bound(losses_CxM)
    saved = units.totals(incident_edges(judge.params, left.gates))[chosen]
    order = np.argsort(_loss_for_an_edge(losses_C - _bound(judge, left), saved), kind="stable")
    order = order[losses_C[order] <= target]
    return chosen[order], losses_CxM[order[:1]]


def _loss_for_an_edge(change: np.ndarray, saved: np.ndarray) -> np.ndarray:
    return np.where(change > 0, change / (saved + 1), change * (saved + 1))


def _without_in_turn(
    judge: Judge, left: _Left, units: Units, order: np.ndarray, first_1xM: np.ndarray, target: float
) -> Iterator[tuple[_Left, np.ndarray]]:
    """Removes each of the units in `order` that can go after those before it.

    Yields what is left after each removal, and those that went. Where several can go together they do: first
    all are tried, then half as many, and so on; after some went, twice as many. first_1xM: the losses without
    the first alone, which can go.
    """
    ranks, first, most = units.ranks(order), 0, len(order)
    while first < len(order):
        most = min(most, len(order) - first)
        alone_1xM = None if first else first_1xM
        count, losses_M = _most_together(judge, left.gates, ranks, first, most, target, alone_1xM)
        if count:
            going = {key: (first <= rank) & (rank < first + count) for key, rank in ranks.items()}
            left = _Left(close(left.gates, going), losses_M)
            yield left, order[first : first + count]
        first, most = first + max(count, 1), max(2 * count, 1)


def _most_together(
    judge: Judge,
    gates: Arrays,
    ranks: Arrays,
    first: int,
    most: int,
    target: float,
    alone_1xM: np.ndarray | None,
) -> tuple[int, np.ndarray]:
    """How many units, from rank `first` on, can be removed together: `most`, half as many, ..., 1 or 0.

    Also the losses then. Large numbers come first: most that fail are given up early, while all pairs are run
    under one that passes. alone_1xM: the losses without the first alone, if it is known that it can go.
    """
    counts = [most >> halvings for halvings in range(most.bit_length())]
    if alone_1xM is not None:
        counts.pop()
    for start in range(0, len(counts), judge.together):
        several = np.array(counts[start : start + judge.together])
        closed = np.stack([np.full_like(several, first), first + several], axis=1)
        losses_CxM = judge.variants(gates, ranks, closed, target)
        passing = np.flatnonzero(judge.bound(losses_CxM) <= target)
        if len(passing):
            return int(several[passing[0]]), losses_CxM[passing[0]]
    return (0, losses_CxM[0]) if alone_1xM is None else (1, alone_1xM[0])
