"""From the gate logits of lanes to the smallest circuit for a target loss: discretize, then eliminate."""

import dataclasses
import functools
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from sparse_jax.ablation.constants import averages, constants_of
from sparse_jax.ablation.draws import constant_ablated
from sparse_jax.ablation.judge import Judge
from sparse_jax.ablation.kinds import is_constant
from sparse_jax.circuits.edges import circuit_size, count_nodes, edges_between
from sparse_jax.circuits.gates import tie
from sparse_jax.circuits.ranking import number_units
from sparse_jax.inputs import InputError
from sparse_jax.pruning.config import PruneConfig
from sparse_jax.pruning.discretize import Choice, LaneCurves
from sparse_jax.pruning.eliminate import Eliminated, eliminate
from sparse_jax.pruning.lanes import Optimized, make_lanes, optimize_gates, repeated
from sparse_jax.pruning.logits import allowed_nodes
from sparse_jax.pruning.step import Lane
from sparse_jax.pruning.swap import swap
from sparse_jax.tasks.encode import EncodedPairs
from sparse_jax.tasks.metrics import Estimate
from sparse_jax.trees import Arrays

# Where a circuit misses its target on fresh pairs, it is found again for one that is lower by at least the
# first of these shares, at most by half, down to the last share of the target.
STRICTER, STRICTEST = 1 / 16, 1 / 64


class Reduced(NamedTuple):
    """The smallest circuit found for a target loss.

    gates: 0/1, of nodes and, after `reduce_edges`, of edges. scores: the logits that nodes were ranked by.
    discretized: numbers of "nodes" and "edges" after ranking, before elimination (for a circuit derived from
    that of a stricter target: those of the latter). loss, standard_error: on the judge's pairs. reached:
    whether the loss is at most the target, on fresh pairs too if there are any. constants: of closed nodes
    that carry one of their own (`ablation.constants.hold`). confirmation: the loss on fresh pairs.
    """

    target: float
    gates: Arrays
    scores: Arrays
    discretized: dict[str, int]
    loss: float
    standard_error: float
    reached: bool
    constants: Arrays = {}  # noqa: RUF012
    confirmation: Estimate | None = None


def working_lanes(found: Optimized) -> list[Arrays]:
    """The logits of each lane that did not break down. Raises InputError if all did."""
    working = np.flatnonzero(~found.failed)
    if not len(working):
        raise InputError(
            f"pruning: all {len(found.failed)} lanes broke down (a loss or logits are not finite); "
            "valid: a lower pruning.learning_rate, or a model with finite weights"
        )
    return [{name: tau[lane] for name, tau in found.logits.items()} for lane in working]


def reduce_nodes(
    judge: Judge,
    lanes: Sequence[Arrays],
    targets: Sequence[float],
    prune: PruneConfig,
    fresh: Judge | None = None,
) -> Iterator[Reduced]:
    """Yields for each of `targets`, the strictest first, the smallest circuit of nodes found from the lanes.

    lanes: the gate logits of each. fresh: judges on other pairs, on which circuits have to be within the
    target too (`_confirmed`).

    The lane with the fewest edges at the target is discretized, and nodes are eliminated. They are also
    eliminated further from the circuit of the next stricter target, and the smaller result is kept, so a
    looser target never has the larger circuit. A target that no lane reaches gets a circuit of nearly the
    lowest loss, without elimination.
    """
    road = _NodesRoad(judge, lanes, prune)
    choices = road.curves.best(targets)
    stricter = None
    for target, choice in sorted(zip(targets, choices), key=lambda pair: pair[0]):
        found = functools.partial(road.reduce, {target: choice}, stricter)
        reduced = _confirmed(found, target, judge, fresh)
        yield reduced
        stricter = reduced if reduced.reached else None


def reduce_edges(
    judge: Judge,
    train: EncodedPairs,
    nodes: Reduced,
    prune: PruneConfig,
    lanes: Lane | None = None,
    label: str = "prune edges",
    path: str | os.PathLike | None = None,
    fresh: Judge | None = None,
) -> Reduced:
    """Prunes the edges of the circuit `nodes`: trains gates on `train`, discretizes and eliminates.

    lanes: seeds and hyperparameters of the prunings, as `make_lanes` makes them; one by default. fresh: as in
    `reduce_nodes`. `discretized` then counts what the ranking of edges left. Elimination can remove nodes
    too. A circuit that misses its target, or has no edge, is returned with open gates on all edges.
    """
    config, params = judge.config, judge.params
    eligible = edges_between(config, params, nodes.gates)
    fixed = {**nodes.gates, **{key: np.ones_like(gate) for key, gate in eligible.items()}}
    if not nodes.reached or not any(gate.any() for gate in eligible.values()):
        return nodes._replace(gates=fixed)

    lanes = make_lanes(prune) if lanes is None else lanes
    lanes = dataclasses.replace(lanes, eligible=repeated(eligible, lanes), fixed=repeated(nodes.gates, lanes))
    found = optimize_gates(config, prune, params, judge.ablated, [train], lanes, label, path)
    curves, removable = LaneCurves(judge, working_lanes(found), fixed, eligible), {**nodes.gates, **eligible}

    def reduced_to(target: float) -> Reduced:
        (choice,) = curves.best((target,))
        reduced = _eliminated(judge, choice, target, nodes.scores, removable, prune.tied_qk)
        may_swap = prune.swaps and reduced.reached
        return _swapped(judge, reduced, removable, prune.tied_qk) if may_swap else reduced

    return _confirmed(reduced_to, nodes.target, judge, fresh)


def _confirmed(
    reduced_to: Callable[[float], Reduced], target: float, judge: Judge, fresh: Judge | None
) -> Reduced:
    """The circuit that `reduced_to` finds for `target`, or for a stricter one if fresh pairs ask for it.

    Elimination keeps what happens to suit the judge's pairs, so its circuits do worse on others. One that
    misses the target on fresh pairs is found again for a target that is stricter by what was missed; if no
    size reaches that, for one between it and the last that was missed. The circuit of the lowest loss, from
    which nothing was eliminated, is the last resort. Fresh pairs decide only few times, so that they stay
    nearly as good as pairs never seen.
    """
    reduced, last_resort = reduced_to(target), None
    if fresh is None:
        return reduced
    aim, missed, unreached = target, target, 0.0
    while True:
        checked, missed_by = _on_fresh_pairs(reduced, target, judge, fresh)
        if reduced.reached and missed_by <= 0:
            return checked
        if reduced.reached:
            missed = aim
            aim = max(aim - max(missed_by, STRICTER * target), aim / 2)
        else:
            last_resort, unreached = checked, aim
        aim = max(aim, (missed + unreached) / 2) if unreached else aim
        if missed - unreached < STRICTER * target or aim < STRICTEST * target:
            return last_resort or checked
        reduced = reduced_to(aim)


def _on_fresh_pairs(reduced: Reduced, target: float, judge: Judge, fresh: Judge) -> tuple[Reduced, float]:
    """The circuit with its loss on fresh pairs, and by how much it misses the target there."""
    own, other = (one.holding(reduced.constants) for one in (judge, fresh))
    losses_M = other.losses(reduced.gates)
    missed_by = float(other.bound(losses_M[None])[0]) - target
    is_within = reduced.reached or own.bound(own.losses(reduced.gates)[None])[0] <= target
    reached = bool(is_within and missed_by <= 0)
    return reduced._replace(target=target, reached=reached, confirmation=other.summary(losses_M)), missed_by


class _NodesRoad:
    """From lanes to circuits of nodes; what all targets share."""

    def __init__(self, judge: Judge, lanes: Sequence[Arrays], prune: PruneConfig):
        self._judge, self._lanes, self._prune = judge, lanes, prune
        self._eligible, fixed = allowed_nodes(judge.config, prune)
        self.curves = LaneCurves(judge, lanes, fixed, self._eligible)

    def reduce(self, choices: Mapping[float, Choice], stricter: Reduced | None, target: float) -> Reduced:
        """The smallest circuit at `target`, from the choice for it (made if missing) or from `stricter`."""
        judge, prune, tied_qk = self._judge, self._prune, self._prune.tied_qk
        choice = choices[target] if target in choices else self.curves.best((target,))[0]
        scores = tie({site: np.asarray(tau) for site, tau in self._lanes[choice.lane].items()}, tied_qk)
        reduced = _eliminated(judge, choice, target, scores, choice.found.gates, tied_qk)
        if stricter is not None and self._is_within(stricter, target):
            end = eliminate(judge, stricter.gates, stricter.gates, target, tied_qk)
            other = Reduced(target, end.gates, stricter.scores, stricter.discretized, *end[1:], True)
            reduced = min(reduced, other, key=lambda one: _size(judge, one))
        if prune.swaps and reduced.reached:
            reduced = _swapped(judge, reduced, self._eligible, tied_qk)
        may_hold = prune.constants and reduced.reached and count_nodes(reduced.gates) > 0
        return _with_constants(judge, reduced, self._eligible, prune) if may_hold else reduced

    def _is_within(self, stricter: Reduced, target: float) -> bool:
        """Whether the nodes of a stricter circuit reach the target without its constants, if it has any."""
        if not stricter.constants:
            return True
        losses_M = self._judge.losses(stricter.gates)
        return bool(self._judge.bound(losses_M[None])[0] <= target)


def _eliminated(
    judge: Judge, choice: Choice, target: float, scores: Arrays, removable: Arrays, tied_qk: bool
) -> Reduced:
    found = choice.found
    discretized = {"nodes": count_nodes(found.gates), "edges": choice.edges}
    end = eliminate(judge, found.gates, removable, target, tied_qk) if found.reached else found
    return Reduced(target, end.gates, scores, discretized, end.loss, end.standard_error, found.reached)


def _swapped(judge: Judge, reduced: Reduced, eligible: Arrays | None, tied_qk: bool) -> Reduced:
    found = Eliminated(reduced.gates, reduced.loss, reduced.standard_error)
    return reduced._replace(**swap(judge, found, eligible, reduced.target, tied_qk)._asdict())


def _with_constants(judge: Judge, reduced: Reduced, eligible: Arrays | None, prune: PruneConfig) -> Reduced:
    """The circuit with constants in place of nodes that only hold one, and without what led to these.

    Nodes are eliminated once more, where each would carry its mean over the prompts (over all tokens, or over
    the last ones, whichever costs less) if it were closed. Constants without which the circuit is still
    within the target are then dropped.
    """
    tied_qk = prune.tied_qk
    kind = judge.ablation if is_constant(judge.ablation) else "mean"
    values = constant_ablated(kind, judge.ablated)
    candidates = averages(judge.config, judge.params, reduced.gates, values, judge.pairs, judge.frozen_norms)
    of_all = _less_harmful(judge, reduced.gates, candidates, tied_qk)
    free = judge.holding(constants_of(reduced.gates, of_all))
    end = eliminate(free, reduced.gates, reduced.gates, reduced.target, tied_qk)
    if prune.swaps:
        end = swap(free, end, eligible, reduced.target, tied_qk)
    closed = {site: (reduced.gates[site] > 0) & (end.gates[site] == 0) for site in of_all}
    loss, error = end.loss, end.standard_error
    for mask in closed.values():
        for place in np.argwhere(mask):
            mask[tuple(place)] = False
            fewer = judge.holding(constants_of(closed, of_all))
            losses_M = fewer.losses(end.gates)
            if fewer.bound(losses_M[None])[0] <= reduced.target:
                loss, error = fewer.summary(losses_M)
            else:
                mask[tuple(place)] = True
    held = constants_of(closed, of_all)
    return reduced._replace(gates=end.gates, loss=loss, standard_error=error, constants=held)


def _less_harmful(judge: Judge, gates: Arrays, candidates: Sequence[Arrays], tied_qk: bool) -> Arrays:
    """For each node the one of two constants that costs less if the node carries it alone."""
    units = number_units(gates, tied_qk)
    each = np.arange(units.count)
    losses = []
    for values in candidates:
        held = judge.holding(constants_of(gates, values))
        closed = np.stack([each, each + 1], axis=1)
        losses.append(held.bound(held.variants(gates, units.ranks(each), closed)))
    is_second = losses[1] < losses[0]
    first, second = candidates
    return {
        site: np.where((number >= 0) & is_second[number], second[site], first[site])
        for site, number in units.numbers.items()
        if site in first
    }


def _size(judge: Judge, reduced: Reduced) -> tuple[bool, int, int]:
    return not reduced.reached, *circuit_size(judge.params, reduced.gates)
