"""A circuit beside other sets of nodes: is it necessary, is it minimal, is it complete, is it better?"""

import functools
import math
from collections.abc import Callable, Iterator, Mapping

import numpy as np

from sparse_jax.circuits.ranking import number_units
from sparse_jax.faithfulness.hypotheses import better_than_share, equivalence, holm, independence
from sparse_jax.faithfulness.intervals import Interval, mean_interval, share_interval, statistic_interval
from sparse_jax.faithfulness.probes import Probe, losses_of, matched_sets, places_of
from sparse_jax.faithfulness.scorecard import Figure
from sparse_jax.pruning.baselines import attribution
from sparse_jax.pruning.config import PruneConfig

# Sets of random nodes; nodes whose removal is tried.
SETS, REMOVED = 100, 64
# Random subsets of the circuit that are ablated in both the circuit and the model; the greedy search adds
# STEPS nodes, each the best of CANDIDATES.
SUBSETS, STEPS, CANDIDATES = 16, 5, 12
# Shares of nodes at which faithfulness is integrated (METHOD 8).
SHARES = np.array([0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0])

Masks = Mapping[str, np.ndarray]


def beside_other_sets(probe: Probe, few: Probe, seed: int) -> Iterator[Figure]:
    """Everything that compares the circuit with other sets of nodes, and the tests of Shi et al.

    few: the same with the fewer pairs that sets of nodes are measured on.
    """
    rng, kept, how = np.random.default_rng(seed), probe.nodes, probe.ablation
    gates = {site: np.asarray(gate, np.float32) for site, gate in kept.items()}
    three = {site: np.stack([0 * gate, 0 * gate + 1, 1 - gate]) for site, gate in gates.items()}
    empty, full, without = probe.margins(three, held=False)
    (circuit,) = probe.margins({site: gate[None] for site, gate in gates.items()})
    yield from _faithfulness(probe, few, empty, full, circuit)
    yield Figure("loss with the circuit ablated", mean_interval(losses_of(without)), "nats", how)
    count = len(few.pairs.tokens)
    own_loss, harm = (losses_of(margins[:count]).mean() for margins in (circuit, without))
    random_sets = matched_sets(kept, SETS, seed)
    random_harm = losses_of(few.margins_without(random_sets)).mean(axis=1)
    random_loss = losses_of(few.margins(random_sets, held=False)).mean(axis=1)
    milder, worse = int((random_harm < harm).sum()), int((random_loss > own_loss).sum())
    yield Figure(f"loss with random nodes ablated, {SETS} sets", mean_interval(random_harm), "nats", how)
    yield Figure("random sets that do less harm", share_interval(milder, SETS), "share", how)
    yield Figure("random circuits that are worse", share_interval(worse, SETS), "share", how)
    effects, added = _removals(few, kept, own_loss, rng)
    larger = int((effects > np.quantile(added, 0.9)).sum())
    needed = share_interval(larger, len(effects))
    yield Figure("nodes that matter more than 9 in 10 added at random", needed, "share", how)
    yield from _incompleteness(few, kept, rng)
    yield _greedy_incompleteness(few, kept, rng)
    tests = {
        "not equivalent to the model": equivalence(full.mean(axis=1), circuit.mean(axis=1)),
        "the rest still knows what the model knows": independence(full.mean(axis=1), without.mean(axis=1)),
        "better than 9 in 10 random circuits": better_than_share(worse, SETS),
        "ablated, worse than 9 in 10 random sets": better_than_share(milder, SETS),
        "no node that a random one could replace": better_than_share(larger, len(effects)),
    }
    for name, p in holm(tests).items():
        yield Figure(f"test: {name}", Interval(p), "p-value", how)


def _faithfulness(
    probe: Probe, few: Probe, empty: np.ndarray, full: np.ndarray, circuit: np.ndarray
) -> Iterator[Figure]:
    """Faithfulness; CPR and CMD: it, and its distance from 1, integrated over the share of nodes kept.

    The circuit's nodes come first, by their scores, then all others by attribution. empty, full, circuit:
    margins [P, 2] of no node, all nodes and the circuit's; the bootstrap draws all three together.
    """
    how, ends = probe.ablation, np.stack([empty, full]).mean(axis=-1)  # [2, P]
    low, high = ends.mean(axis=1)
    if abs(high - low) < 1e-6:
        yield Figure("faithfulness of the logit difference", Interval(math.nan), "ratio", how)
        return
    of_circuit = np.concatenate([ends, circuit.mean(axis=-1)[None]])
    ratio = statistic_interval(of_circuit.T, lambda means: _faithful(means)[..., 0])
    yield Figure("faithfulness of the logit difference", ratio, "ratio", how)
    by_share = few.margins(_by_share(few)).mean(axis=-1)  # [K, P]
    of_shares = np.concatenate([ends[:, : by_share.shape[1]], by_share])
    for name, of in (("CPR", np.asarray), ("CMD", _distance_from_one)):
        for over, x in (("the share of nodes", SHARES), ("the logarithm of the share", np.log(SHARES))):
            found = statistic_interval(of_shares.T, functools.partial(_area, x, of))
            yield Figure(f"{name} over {over}", found, "ratio", how)


def _area(x: np.ndarray, of: Callable[[np.ndarray], np.ndarray], means: np.ndarray) -> np.ndarray:
    """The integral over x of a function of faithfulness, from means as `_faithful` takes them."""
    return _mean_over(x, of, _faithful(means))


def _faithful(means: np.ndarray) -> np.ndarray:
    """Mean margins [..., 2 + K] of no node, of all and of K sets -> the faithfulness of these [..., K]."""
    empty, full = means[..., :1], means[..., 1:2]
    return (means[..., 2:] - empty) / (full - empty)


def _distance_from_one(f: np.ndarray) -> np.ndarray:
    return np.abs(1 - f)


def _mean_over(x: np.ndarray, of: Callable[[np.ndarray], np.ndarray], f: np.ndarray) -> np.ndarray:
    """The integral of `of(f)` over x by the trapezoidal rule, divided by the length of the range."""
    return np.trapezoid(of(f), x, axis=-1) / (x[-1] - x[0])


def _by_share(probe: Probe) -> dict[str, np.ndarray]:
    """Gates [K, L, N] of the best-ranked nodes, for every share."""
    config, kept, names = probe.model.config, probe.nodes, tuple(probe.nodes)
    told = probe.circuit.provenance.get("pruning", {})
    prune = PruneConfig(sites=probe.circuit.sites, tied_qk=told.get("tied_qk", PruneConfig.tied_qk))
    found = attribution(config, probe.model.params, probe.means, probe.pairs, prune)
    units = number_units({site: np.ones(np.shape(kept[site])) for site in names}, prune.tied_qk)
    outside = units.totals(found) / (1 + units.totals(found).max())  # below 1
    scores = {site: np.zeros(np.shape(gate)) for site, gate in kept.items()}
    for node in probe.circuit.nodes:
        scores[node.site][node.place] = node.score
    if prune.tied_qk:
        scores.pop("k", None)  # that of q, with which it shares the gate, would count twice
    own = units.totals(scores)
    is_kept = units.totals(kept) > 0
    order = np.argsort(-(outside + is_kept * (2 + own - own.min())), kind="stable")
    ranks = units.ranks(order)
    sizes = np.maximum(1, np.rint(SHARES * units.count)).astype(int)
    return {site: np.stack([rank < size for size in sizes]) for site, rank in ranks.items()}


def _removals(
    probe: Probe, kept: Masks, loss: float, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """How much the loss changes without each node (REMOVED at most), and without one added at random."""
    places, others = places_of(kept), places_of({site: 1 - np.asarray(gate) for site, gate in kept.items()})
    removed = [places[i] for i in rng.permutation(len(places))[:REMOVED]]
    added = [others[i] for i in rng.permutation(len(others))[:SETS]]
    sets = {
        site: np.repeat(np.asarray(gate, np.float32)[None], len(removed) + len(added), axis=0)
        for site, gate in kept.items()
    }
    for row, (site, *place) in enumerate([*removed, *added]):
        sets[site][(row, *place)] = 1 - sets[site][(row, *place)]
    losses = losses_of(probe.margins(sets)).mean(axis=1)
    changes = np.abs(losses - loss)
    return changes[: len(removed)], changes[len(removed) :]


def _incompleteness(probe: Probe, kept: Masks, rng: np.random.Generator) -> Iterator[Figure]:
    """The largest difference between circuit and model that ablating a part of the circuit in both makes.

    Among random halves of it, and among its nodes of one site each.
    """
    halves = [
        {site: np.asarray(gate) * (rng.random(np.shape(gate)) < 0.5) for site, gate in kept.items()}
        for _ in range(SUBSETS)
    ]
    of_site = [
        {site: np.asarray(gate) * (site == chosen) for site, gate in kept.items()}
        for chosen in kept
        if np.any(kept[chosen])
    ]
    for name, parts in ((f"{SUBSETS} random halves", halves), ("its sites", of_site)):
        masks = {site: np.stack([part[site] for part in parts]) for site in kept}
        differences = _differences(probe, kept, masks)
        most = int(np.argmax(np.abs(differences.mean(axis=1))))
        interval = mean_interval(np.sign(differences[most].mean()) * differences[most])
        yield Figure(f"incompleteness, largest of {name}", interval, "logits", probe.ablation)


def _greedy_incompleteness(probe: Probe, kept: Masks, rng: np.random.Generator) -> Figure:
    """The same for a part that grows by the node, of some at random, that makes the difference largest."""
    places = places_of(kept)
    part = {site: np.zeros(np.shape(gate), np.float32) for site, gate in kept.items()}
    best = np.zeros(len(probe.pairs.tokens))
    for _ in range(min(STEPS, len(places))):
        tried = [places[i] for i in rng.permutation(len(places))[:CANDIDATES]]
        masks = {site: np.repeat(mask[None], len(tried), axis=0) for site, mask in part.items()}
        for row, (site, *place) in enumerate(tried):
            masks[site][(row, *place)] = 1
        differences = _differences(probe, kept, masks)
        most = int(np.argmax(np.abs(differences.mean(axis=1))))
        if abs(differences[most].mean()) <= abs(best.mean()):
            break
        best, part = differences[most], {site: mask[most] for site, mask in masks.items()}
        places.remove(tried[most])
    interval = mean_interval(np.sign(best.mean()) * best)
    return Figure(f"incompleteness, up to {STEPS} nodes chosen greedily", interval, "logits", probe.ablation)


def _differences(probe: Probe, kept: Masks, masks: Masks) -> np.ndarray:
    """How much ablating each of C parts in both makes circuit and model differ, in logits [C, P]."""
    circuit = probe.margins({site: np.asarray(kept[site])[None] - mask for site, mask in masks.items()})
    return (circuit - probe.margins_without(masks)).mean(axis=-1)
