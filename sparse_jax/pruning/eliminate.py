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


def eliminate(judge: Judge, gates: Arrays, eligible: Arrays, target: float, tied: bool = True) -> Eliminated:
    """Closes open gates among `eligible` (0/1) while the mean loss is at most `target`, to a local minimum.

    In the end no single further unit can be removed (if `tied`, a channel of q goes with that of k): each has
    been tried. Greedy: the unit that costs the least loss per edge saved goes first. Gates that miss the
    target from the start are returned unchanged.
    """
    gates = {key: np.asarray(gate, np.float32) for key, gate in gates.items()}
    losses_M = judge.losses(gates)
    if judge.bound(losses_M[None])[0] <= target:
        quick = judge.hardest_first(gates)
        gates = _without_blocks(quick, gates, eligible, target, tied)
        gates = _remove(quick, gates, _open_units(gates, eligible, tied), target)
        losses_M = judge.losses(gates)
    return Eliminated(gates, *judge.summary(losses_M))


def _open_units(gates: Arrays, eligible: Arrays, tied: bool) -> Units:
    return number_units({key: gates[key] * np.asarray(eligible[key]) for key in eligible}, tied)


def _without_blocks(judge: Judge, gates: Arrays, eligible: Arrays, target: float, tied: bool) -> Arrays:
    """Removes blocks of units with similar first-order effects on the loss; large blocks first."""
    for size in BLOCKS:
        units = _open_units(gates, eligible, tied)
        if units.count > MANY:
            order = np.argsort(np.abs(units.totals(judge.gradients(gates))), kind="stable")
            gates = _remove(judge, gates, units.blocks(order, size), target)
    return gates


def _remove(judge: Judge, gates: Arrays, units: Units, target: float) -> Arrays:
    """Removes units in rounds until none can go."""
    left = hopeful = np.arange(units.count)
    needed = left[:0]  # units that cannot be removed as things are
    loss = judge.bound(judge.losses(gates)[None])[0]
    bar = Progress(f"{judge.label}: eliminate", len(left), "units", shown=bool(judge.label))
    while len(needed) < len(left):
        losses = _without_each(judge, gates, units, hopeful, target)
        passing, losses = hopeful[losses <= target], losses[losses <= target]
        if len(passing):
            saved = units.totals(incident_edges(judge.params, gates))[passing]
            first = np.argsort(_loss_for_an_edge(losses - loss, saved), kind="stable")
            passing, losses = passing[first], losses[first]
            ranks = units.ranks(passing)
            count, loss = _most_together(judge, gates, ranks, losses[0], len(passing), target)
            gates = close(gates, {key: (rank >= 0) & (rank < count) for key, rank in ranks.items()})
            left, needed = np.setdiff1d(left, passing[:count]), left[:0]
            # units removable before are likely still removable; the many others wait until none of these are
            hopeful = passing[count:]
        else:
            needed = np.union1d(needed, hopeful)
            hopeful = np.setdiff1d(left, needed)
        bar.update(units.count - len(left) + len(needed), left=len(left), loss=float(loss))
    finish_line()
    return gates


def _loss_for_an_edge(change: np.ndarray, saved: np.ndarray) -> np.ndarray:
    return np.where(change > 0, change / (saved + 1), change * (saved + 1))


def _without_each(judge: Judge, gates: Arrays, units: Units, chosen: np.ndarray, target: float) -> np.ndarray:
    """The mean loss without each of the `chosen` units in turn; infinite if provably above the target."""
    closed = np.stack([np.arange(len(chosen)), np.arange(len(chosen)) + 1], axis=1)
    return judge.bound(judge.variants(gates, units.ranks(chosen), closed, target))


def _most_together(
    judge: Judge, gates: Arrays, ranks: Arrays, loss: float, count: int, target: float
) -> tuple[int, float]:
    """The largest number, up to `count`, of first ranks that can be removed together, and the loss then.

    The first can be removed alone, with the given `loss`.
    """
    several = sizes_to_try(count, STRIDE)[2:]
    closed = np.stack([np.zeros_like(several), several], axis=1)
    losses = judge.bound(judge.variants(gates, ranks, closed, target))
    passing = np.flatnonzero(losses <= target)
    return (int(several[passing[-1]]), float(losses[passing[-1]])) if len(passing) else (1, float(loss))
