"""Removes from a circuit what it does not need, down to a local minimum (the paper did this by hand)."""

from typing import NamedTuple

import numpy as np

from sparse_jax.ablation.judge import Judge
from sparse_jax.circuits.edges import incident_edges
from sparse_jax.circuits.gates import close
from sparse_jax.circuits.ranking import Units, number_units
from sparse_jax.progress import Progress, finish_line
from sparse_jax.pruning.discretize import sizes_to_try
from sparse_jax.trees import Arrays

# Counts of units to remove together: every count up to 1 / STRIDE is tried, beyond that only some.
STRIDE = 1 / 32
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
    been tried. Greedy: the unit that costs the least loss per edge saved goes first. Gates that miss the
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


def _remove(judge: Judge, start: _Left, units: Units, target: float, label: str) -> _Left:
    """Removes units in rounds until none can go."""
    gates, losses_M = start
    left = hopeful = np.arange(units.count)
    needed = left[:0]  # units that cannot be removed as things are
    loss = judge.bound(losses_M[None])[0]
    bar = Progress(f"{label}: eliminate", len(left), "units", shown=bool(label))
    while len(needed) < len(left):
        losses_CxM = _without_each(judge, gates, units, hopeful, target)
        losses = judge.bound(losses_CxM)
        removable = np.flatnonzero(losses <= target)
        if len(removable):
            saved = units.totals(incident_edges(judge.params, gates))[hopeful[removable]]
            cost = _loss_for_an_edge(losses[removable] - loss, saved)
            removable = removable[np.argsort(cost, kind="stable")]
            passing, first_M = hopeful[removable], losses_CxM[removable[0]]
            ranks = units.ranks(passing)
            count, losses_M = _most_together(judge, gates, ranks, first_M, len(passing), target)
            loss = judge.bound(losses_M[None])[0]
            gates = close(gates, {key: (rank >= 0) & (rank < count) for key, rank in ranks.items()})
            left, needed = np.setdiff1d(left, passing[:count]), left[:0]
            # units removable before are likely still removable; the many others wait until none of these are
            hopeful = passing[count:]
        else:
            needed = np.union1d(needed, hopeful)
            hopeful = np.setdiff1d(left, needed)
        bar.update(units.count - len(left) + len(needed), left=len(left), loss=float(loss))
    finish_line()
    return _Left(gates, losses_M)


def _loss_for_an_edge(change: np.ndarray, saved: np.ndarray) -> np.ndarray:
    return np.where(change > 0, change / (saved + 1), change * (saved + 1))


def _without_each(judge: Judge, gates: Arrays, units: Units, chosen: np.ndarray, target: float) -> np.ndarray:
    """The losses [C, M] without each of C `chosen` units in turn; infinite if provably above the target."""
    closed = np.stack([np.arange(len(chosen)), np.arange(len(chosen)) + 1], axis=1)
    return judge.variants(gates, units.ranks(chosen), closed, target)


def _most_together(
    judge: Judge, gates: Arrays, ranks: Arrays, losses_M: np.ndarray, count: int, target: float
) -> tuple[int, np.ndarray]:
    """The largest number, up to `count`, of first ranks that can be removed together, and the losses then.

    The first can be removed alone, with the given losses. Large numbers are tried first: most that fail are
    given up early, while all pairs are run under one that passes.
    """
    counts = sizes_to_try(count, STRIDE)[:1:-1]
    for start in range(0, len(counts), judge.together):
        several = counts[start : start + judge.together]
        closed = np.stack([np.zeros_like(several), several], axis=1)
        losses_CxM = judge.variants(gates, ranks, closed, target)
        passing = np.flatnonzero(judge.bound(losses_CxM) <= target)
        if len(passing):
            return int(several[passing[0]]), losses_CxM[passing[0]]
    return 1, losses_M
