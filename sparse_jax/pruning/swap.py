"""Leaves the local minimum that an elimination ends in: lets nodes in that help, so that more can go."""

import numpy as np

from sparse_jax.ablation.judge import Judge
from sparse_jax.circuits.edges import circuit_size
from sparse_jax.circuits.ranking import number_units
from sparse_jax.pruning.eliminate import Eliminated, eliminate
from sparse_jax.trees import Arrays, fingerprint

# How many units are let in at once, in turn.
LET_IN = (1, 2, 4, 8)


def swap(
    judge: Judge, found: Eliminated, eligible: Arrays | None, target: float, tied: bool = True
) -> Eliminated:
    """A circuit with fewer edges than `found` (or as many, and fewer nodes), if one is near; else `found`.

    One node more can make two others superfluous, which no removal finds. So the closed units among
    `eligible` (0/1; None for all) that lower the loss most to first order are opened, a few at a time, and
    all open ones are eliminated again; what is smaller is kept. It ends when no number of `LET_IN` helps.
    """
    if eligible is None:
        eligible = {key: np.ones_like(gate) for key, gate in found.gates.items()}
    ranks = _helpful(judge, found.gates, eligible, tied)
    failed, turn, started_from = 0, 0, set()
    while failed < len(LET_IN):
        opened = _with_first(found.gates, ranks, LET_IN[turn % len(LET_IN)])
        turn += 1
        start = fingerprint(opened)
        if start in started_from:  # where few units help, or the same are open as before: nothing new
            failed += 1
            continue
        started_from.add(start)
        label = judge.label and f"{judge.label}: swap {turn}"
        other = eliminate(judge, opened, eligible, target, tied, label)
        if circuit_size(judge.params, other.gates) < circuit_size(judge.params, found.gates):
            found, failed = other, 0
            ranks = _helpful(judge, found.gates, eligible, tied)
        else:
            failed += 1
    return found


def _helpful(judge: Judge, gates: Arrays, eligible: Arrays, tied: bool) -> Arrays:
    """The ranks of closed units whose opening lowers the loss to first order, that which helps most first."""
    units = number_units({key: np.asarray(eligible[key]) * (1 - gates[key]) for key in eligible}, tied)
    change = units.totals(judge.gradients(gates))
    best = np.argsort(change, kind="stable")
    return units.ranks(best[change[best] < 0])


def _with_first(gates: Arrays, ranks: Arrays, count: int) -> Arrays:
    """`gates` with the first `count` units by rank open too."""
    return {
        key: np.maximum(gate, np.float32((ranks[key] >= 0) & (ranks[key] < count))) if key in ranks else gate
        for key, gate in gates.items()
    }
