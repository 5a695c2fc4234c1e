"""From gate logits to a circuit: the fewest best-ranked units whose loss reaches the target."""

import functools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from sparse_jax.ablation.judge import VARIANTS, Judge
from sparse_jax.circuits.edges import edges_by_size
from sparse_jax.circuits.gates import close
from sparse_jax.circuits.ranking import number_units
from sparse_jax.progress import Progress, finish_line
from sparse_jax.trees import Arrays

# In search of the smallest circuit, all lanes are first followed up to this many edges.
FIRST_EDGES = 16
# Lanes are followed one unit at a time up to this size, or twice as many units as their own gates leave open.
# What lies beyond has no order worth the time: training closed it firmly, and a target that is not reached
# by then mostly never is. From there on each size is larger than the one before by this share.
EXACT_UP_TO = 256
GROWTH = 1 / 32
# Where no size reaches the target, every COARSE-th is run for the lowest loss, then those beside the best.
# Most of these need all pairs, so that all sizes would take several times as long as the search for a target.
COARSE = 4


class Discretized(NamedTuple):
    """The circuit of the best-ranked units: 0/1 gates, how many units are open, and its loss.

    standard_error: of the loss, over pairs. reached: whether the loss is at most the target.
    """

    gates: dict[str, np.ndarray]
    k: int
    loss: float
    standard_error: float
    reached: bool


def discretize(
    judge: Judge,
    scores: Arrays,
    target: float,
    fixed: Arrays | None = None,
    eligible: Arrays | None = None,
) -> Discretized:
    """`discretize_many` for a single target."""
    return discretize_many(judge, scores, (target,), fixed, eligible)[0]


def discretize_many(
    judge: Judge,
    scores: Arrays,
    targets: Sequence[float],
    fixed: Arrays | None = None,
    eligible: Arrays | None = None,
    growth: float = 0.0,
) -> list[Discretized]:
    """For each target the smallest k whose k best-ranked units have a mean loss of at most the target.

    Units are ranked by `scores` (ties: by site name, layer, index); if "k" is absent there, it shares the
    gates of "q". Only what is nonzero in `eligible` (default: all) is ranked; the others stay as in `fixed`.
    The loss is not monotone in k (METHOD 6), so every k from 0 up is evaluated on the same pairs until one
    reaches the target: the result is exact. All targets share one curve, which is computed only as far as
    the strictest target needs; a k is abandoned as soon as it provably misses. A target that no k reaches
    gets the k of the lowest loss among every COARSE-th and those beside the best of them.

    growth: for baselines only, whose circuits have thousands of nodes: above 1 / growth, each k tried is
    larger than the one before by this share, so the answer may be too large by as much.
    """
    curve = LossCurve(judge, scores, fixed, eligible, growth)
    found = {target: curve.at(target) for target in sorted(targets, reverse=True)}
    return [found[target] for target in targets]


class LossCurve:
    """The losses of the k best-ranked units for growing k, computed only as far as they are needed.

    A loss known to be above one target is above all stricter ones, so its exact value is never computed, and
    stricter targets go on where the last one ended. A looser one starts again, so ask for the loosest first.
    growth, exact: the sizes that are tried, as in `sizes_to_try`.
    """

    def __init__(
        self,
        judge: Judge,
        scores: Arrays,
        fixed: Arrays | None = None,
        eligible: Arrays | None = None,
        growth: float = 0.0,
        exact: int = 0,
    ):
        if eligible is None:
            eligible = {key: np.ones(np.shape(score)) for key, score in scores.items()}
        units = number_units(eligible, tied="q" in scores and "k" not in scores)
        self.ranks = units.ranks(np.argsort(-units.totals(scores), kind="stable"))
        opened = {
            key: np.where(number >= 0, np.float32(1), 1 if fixed is None else fixed[key])
            for key, number in units.numbers.items()
        }
        self.all_open = {**(fixed or {}), **opened}
        self._judge, self._total, self._asked = judge, units.count, np.inf
        self._ks = sizes_to_try(units.count, growth, exact)
        self._losses_KxM = np.zeros((0, len(judge.items.kind)))
        self._bar = Progress(f"{judge.label}: discretize", len(self._ks), "sizes", shown=bool(judge.label))

    def edges(self) -> np.ndarray:
        """The number of edges for every k from 0 to all units."""
        return edges_by_size(self._judge.params, self.all_open, self.ranks, self._total)

    def smallest(self, target: float, most: int | None = None) -> Discretized | None:
        """The smallest k, at most `most`, whose loss is at most `target`; None if there is none."""
        if target > self._asked:  # what missed the stricter one was not followed further
            self._losses_KxM = self._losses_KxM[:0]
        self._asked = target
        tried = len(self._ks) if most is None else int(np.searchsorted(self._ks, most, side="right"))
        done = 0
        while done < tried:
            if done == len(self._losses_KxM):
                self._extend(target)
            passing = np.flatnonzero(self._judge.bound(self._losses_KxM[done:tried]) <= target)
            if len(passing):
                place = done + int(passing[0])
                return self._found(place, self._losses_KxM[place], reached=True)
            done = len(self._losses_KxM)
        return None

    def at(self, target: float) -> Discretized:
        """The result of `smallest` or, if no k reaches the target, one of nearly the lowest loss."""
        found = self.smallest(target)
        if found is not None:
            return found
        return self._closest

    @functools.cached_property
    def _closest(self) -> Discretized:
        """The k of the lowest loss of those that are run (COARSE). Found once for all targets."""
        last = len(self._ks) - 1
        waiting = coarse = np.unique([*range(0, last, COARSE), last])
        label = f"{self._judge.label}: the size of the lowest loss"
        bar = Progress(label, len(coarse) + 2 * (COARSE - 1), "sizes", shown=bool(self._judge.label))
        lowest, done = _Lowest(0, np.full(len(self._judge.items.kind), np.inf), np.inf), 0
        while len(waiting):
            places, waiting = waiting[:VARIANTS], waiting[VARIANTS:]
            lowest = self._lower(lowest, places)
            done += len(places)
            bar.update(done, loss=lowest.bound)
            if done == len(coarse):
                beside = np.arange(max(0, lowest.place - COARSE + 1), min(last, lowest.place + COARSE))
                waiting = np.setdiff1d(beside, coarse)
        return self._found(lowest.place, lowest.losses_M, reached=False)

    def _lower(self, lowest: "_Lowest", places: np.ndarray) -> "_Lowest":
        """The size of the lowest loss at `places`, or `lowest` if none is below that."""
        closed = self._closed(self._ks[places])
        # a mean above the best bound so far has a larger bound itself, so the best is never abandoned
        losses_KxM = self._judge.variants(self.all_open, self.ranks, closed, lowest.bound)
        bounds = self._judge.bound(losses_KxM)
        best = int(np.argmin(bounds))
        if bounds[best] < lowest.bound:
            return _Lowest(int(places[best]), losses_KxM[best], float(bounds[best]))
        return lowest

    def _extend(self, limit: float) -> None:
        start = len(self._losses_KxM)
        closed = self._closed(self._ks[start : start + VARIANTS])
        losses = self._judge.variants(self.all_open, self.ranks, closed, limit)
        self._losses_KxM = np.concatenate([self._losses_KxM, losses])
        self._bar.update(len(self._losses_KxM))

    def _closed(self, ks: np.ndarray) -> np.ndarray:
        return np.stack([ks, np.full_like(ks, self._total)], axis=1)

    def _found(self, place: int, losses_M: np.ndarray, reached: bool) -> Discretized:
        k = int(self._ks[place])
        gates = close(self.all_open, {key: rank >= k for key, rank in self.ranks.items()})
        return Discretized(gates, k, *self._judge.summary(losses_M), reached)


class _Lowest(NamedTuple):
    """The size of the lowest loss so far: its place among the sizes, the losses of its items, their bound."""

    place: int
    losses_M: np.ndarray
    bound: float


def sizes_to_try(count: int, growth: float, exact: int = 0) -> np.ndarray:
    """0, 1, 2, ... to `count`; with `growth`, the steps grow to that share of k once this exceeds 1.

    Up to `exact` they do not grow.
    """
    sizes = list(range(min(count, exact) + 1))
    while sizes[-1] < count:
        sizes.append(min(count, sizes[-1] + max(1, int(sizes[-1] * growth))))
    return np.array(sizes, np.int32)


class Choice(NamedTuple):
    """The best of several lanes for one target: the lane's number, its circuit and its number of edges."""

    lane: int
    found: Discretized
    edges: int


class LaneCurves:
    """The loss curves of several lanes, followed side by side: one that needs nearly all units costs no more.

    lanes: the gate logits of each; `fixed` and `eligible` as in `discretize_many`. The curves are kept, so a
    stricter target after another costs only what its circuit is larger.
    """

    def __init__(
        self,
        judge: Judge,
        lanes: Sequence[Arrays],
        fixed: Arrays | None = None,
        eligible: Arrays | None = None,
    ):
        counts = [_open(logits) for logits in lanes]
        self._curves = [
            LossCurve(judge, logits, fixed, eligible, GROWTH, max(EXACT_UP_TO, 2 * count))
            for logits, count in zip(lanes, counts)
        ]
        self._edges = [curve.edges() for curve in self._curves]
        # lanes with the fewest edges by their own gates come first, so that the others are cut short
        self._order = sorted(range(len(lanes)), key=counts.__getitem__)

    def best(self, targets: Sequence[float]) -> list[Choice]:
        """For each target the lane that reaches it with the fewest edges, or one of nearly the lowest loss.

        The number of edges only grows with k, so all lanes are followed until one of them reaches the target.
        The result is exact as long as the circuit has at most `EXACT_UP_TO` units, or twice as many as the
        lane's own gates leave open; a larger one may be too large by the share `GROWTH`.
        """
        found = {target: self._at(target) for target in sorted(targets, reverse=True)}
        finish_line()
        return [found[target] for target in targets]

    def _at(self, target: float) -> Choice:
        choice = None
        for limit in _limits(max(int(counts[-1]) for counts in self._edges)):
            for lane in self._order:
                fewest = limit if choice is None else choice.edges - 1
                most = int(np.searchsorted(self._edges[lane], fewest, side="right")) - 1
                found = self._curves[lane].smallest(target, most)
                if found is not None:
                    choice = self._choice(lane, found)
            if choice is not None:
                return choice
        missed = {lane: self._curves[lane].at(target) for lane in self._order}
        lane = min(self._order, key=lambda lane: missed[lane].loss)
        return self._choice(lane, missed[lane])

    def _choice(self, lane: int, found: Discretized) -> Choice:
        return Choice(lane, found, int(self._edges[lane][found.k]))


def _limits(most: int) -> list[int]:
    """Numbers of edges, each 1.5 times the one before, ending with `most`."""
    limits = [FIRST_EDGES]
    while limits[-1] < most:
        limits.append(limits[-1] * 3 // 2)
    return [*limits[:-1], most]


def _open(logits: Arrays) -> int:
    return sum(int(np.count_nonzero(np.asarray(tau) >= 0)) for tau in logits.values())
