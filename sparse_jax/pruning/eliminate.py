"""Takes out of a circuit what it can do without, down to a local minimum: what its authors did by hand."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np

from sparse_jax.model import sites
from sparse_jax.pruning.discretize import sizes_to_try
from sparse_jax.pruning.evaluate import Evaluator
from sparse_jax.pruning.ranking import Units, close, number_units
from sparse_jax.pruning.sizes import count_edges, count_nodes, incident_edges
from sparse_jax.tasks.metrics import summarize

Arrays = Mapping[str, np.ndarray]
# What is removed first, from the change of the loss and the edges saved by each single removal.
Order = Callable[[np.ndarray, np.ndarray], np.ndarray]
# All numbers up to 1 / STRIDE are tried of how many can go together, of more only some.
STRIDE = 1 / 32
# Circuits of more units than MANY first lose blocks of these sizes: hundreds of units one by one take long.
MANY, BLOCKS = 128, (32, 8)


class Eliminated(NamedTuple):
    """What is left: 0/1 gates, and their loss with its standard error over the pairs."""

    gates: dict[str, np.ndarray]
    loss: float
    standard_error: float


def eliminate(
    evaluator: Evaluator, gates: Arrays, eligible: Arrays, target: float, tied: bool = True
) -> Eliminated:
    """Closes open gates among `eligible` (0/1) while the mean loss is at most `target`, to a local minimum.

    What is left could not lose a single one more of them (where `tied`, a channel of q goes with that of k):
    each has been tried. Greedy by several `ORDERS`, of which the one is kept that ends with the fewest edges
    (then nodes). Gates that miss the target to begin with come back as they are.
    """
    gates = {key: np.asarray(gate, np.float32) for key, gate in gates.items()}
    losses_P = evaluator.losses(gates)
    if losses_P.mean() <= target:
        gates = _without_blocks(evaluator, gates, eligible, target, tied)
        units = _open_units(gates, eligible, tied)
        # an edge saves no other edge: all orders are one
        orders = ORDERS[: 1 if all(map(sites.is_edge, eligible)) else None]
        known: dict[bytes, np.ndarray] = {}
        ends = [_remove(evaluator, gates, units, target, order, known) for order in orders]
        gates = min(ends, key=lambda end: (count_edges(evaluator.params, end), count_nodes(end)))
        losses_P = evaluator.losses(gates)
    return Eliminated(gates, *summarize(losses_P))


def _by_loss(change_U: np.ndarray, saved_U: np.ndarray) -> np.ndarray:
    return change_U


def _by_loss_for_an_edge(change_U: np.ndarray, saved_U: np.ndarray) -> np.ndarray:
    return np.where(change_U > 0, change_U / (saved_U + 1), change_U * (saved_U + 1))


def _by_edges(change_U: np.ndarray, saved_U: np.ndarray) -> np.ndarray:
    return -saved_U


ORDERS: tuple[Order, ...] = (_by_loss, _by_loss_for_an_edge, _by_edges)


def _open_units(gates: Arrays, eligible: Arrays, tied: bool) -> Units:
    return number_units({key: gates[key] * np.asarray(eligible[key]) for key in eligible}, tied)


def _without_blocks(
    evaluator: Evaluator, gates: Arrays, eligible: Arrays, target: float, tied: bool
) -> dict[str, np.ndarray]:
    """Removes blocks of units that the loss depends on about as little, to first order; large ones first."""
    for size in BLOCKS:
        units = _open_units(gates, eligible, tied)
        if units.count > MANY:
            order = np.argsort(np.abs(units.totals(evaluator.slopes(gates))), kind="stable")
            gates = _remove(evaluator, gates, units.blocks(order, size), target, _by_loss, {})
    return gates


def _remove(
    evaluator: Evaluator,
    gates: Arrays,
    units: Units,
    target: float,
    order: Order,
    known: dict[bytes, np.ndarray],
) -> dict[str, np.ndarray]:
    """Removes units in rounds until none can go.

    known: by what is left, the losses without each of it (NaN: not tried yet); shared by the orders.
    """
    left = hopeful = np.arange(units.count)
    loss = evaluator.losses(gates).mean()
    while True:
        losses_U = known.setdefault(left.tobytes(), np.full(units.count, np.nan))
        untried = hopeful[np.isnan(losses_U[hopeful])]
        losses_U[untried] = _without_each(evaluator, gates, units, untried, target)
        passing = left[losses_U[left] <= target]
        if len(passing):
            saved_U = units.totals(incident_edges(evaluator.params, gates))
            first = np.argsort(order(losses_U[passing] - loss, saved_U[passing]), kind="stable")
            passing = passing[first]
            ranks = units.ranks(passing)
            count, loss = _most_together(evaluator, gates, ranks, losses_U[passing[0]], len(passing), target)
            gates = close(gates, {key: (rank >= 0) & (rank < count) for key, rank in ranks.items()})
            left = np.setdiff1d(left, passing[:count])
            # what could go alone is likely to be able to still; the many others wait until none of these can
            hopeful = passing[count:]
        elif len(hopeful) < len(left):
            hopeful = left
        else:
            return gates


def _without_each(
    evaluator: Evaluator, gates: Arrays, units: Units, chosen: np.ndarray, target: float
) -> np.ndarray:
    """The mean loss without each of the `chosen` units in turn; infinite where proved above the target."""
    closed = np.stack([np.arange(len(chosen)), np.arange(len(chosen)) + 1], axis=1)
    return evaluator.variants(gates, units.ranks(chosen), closed, target).mean(axis=1)


def _most_together(
    evaluator: Evaluator, gates: Arrays, ranks: Arrays, loss: float, count: int, target: float
) -> tuple[int, float]:
    """How many of the first `count` ranks can go together, at most, and the loss then.

    The first alone can go, with the given loss.
    """
    several = sizes_to_try(count, STRIDE)[2:]
    closed = np.stack([np.zeros_like(several), several], axis=1)
    losses = evaluator.variants(gates, ranks, closed, target).mean(axis=1)
    passing = np.flatnonzero(losses <= target)
    return (int(several[passing[-1]]), float(losses[passing[-1]])) if len(passing) else (1, float(loss))
