"""Prunes again: from other seeds, and without the nodes that were found (backups)."""

import dataclasses
from collections.abc import Iterator

import numpy as np

from sparse_jax.circuits.graph import Circuit
from sparse_jax.faithfulness.intervals import Interval, geometric_mean, mean_interval, share_interval
from sparse_jax.faithfulness.probes import INNER_SITES, Probe, inner, losses_of
from sparse_jax.faithfulness.scorecard import BACKUP, EDGES, LOSS, OTHER_SEEDS, Figure
from sparse_jax.inputs import InputError, from_mapping
from sparse_jax.model.nodes import select
from sparse_jax.pruning.config import PruneConfig
from sparse_jax.pruning.prune import find_circuits, reachable
from sparse_jax.pruning.recipe import Recipe
from sparse_jax.pruning.store import Store
from sparse_jax.pruning.subject import Subject
from sparse_jax.tasks.task import Task
from sparse_jax.tasks.task_data import task_data

# Prunings from other seeds; the most circuits that are found after one another without the nodes of all
# before.
SEEDS, ROUNDS = 4, 2


def pruned_again(probe: Probe, task: Task) -> Iterator[Figure]:
    """Figures of SEEDS prunings from other seeds, and of up to ROUNDS backups.

    Each is one pruning of nodes with the settings that the circuit was found with, judged on the test split;
    one that breaks down, or whose pairs the full model misses, counts as a miss. A backup is found while the
    q, k, v and neurons of the circuit, and of backups before it, are forbidden.
    Raises InputError for a circuit that does not say how it was found.
    """
    if "pruning" not in probe.circuit.provenance:
        raise InputError(
            "circuit: it does not say how it was found; valid: one found by sparse_jax, or no pruning again"
        )
    # of before there were swaps, none are told
    given = {"swaps": False, **probe.circuit.provenance["pruning"]}
    settings = from_mapping(PruneConfig, given, "pruning")
    return _figures(probe, task, settings)


def _figures(probe: Probe, task: Task, settings: PruneConfig) -> Iterator[Figure]:
    yield from _seeds(probe, task, settings)
    yield from _backups(probe, task, settings)


def _pruned(probe: Probe, task: Task, settings: PruneConfig, label: str) -> Circuit | None:
    """One pruning of nodes; None if it broke down, or the full model misses the target on these pairs."""
    model, recipe = probe.model, Recipe(settings)
    subject = Subject(model, probe.means, Store(None), probe.text)
    data = task_data(task, model.require_tokenizer(), model.config.context, settings.counts)
    targets = reachable(subject, data, recipe)[1]
    if not targets:
        return None
    (found,) = find_circuits(subject, [data], recipe, {data.name: targets}, f"{label} {data.name}")
    return found.circuit


def _seeds(probe: Probe, task: Task, settings: PruneConfig) -> Iterator[Figure]:
    how, hits, common, edges = settings.ablation, 0, [], []
    own = {node.name for node in probe.circuit.nodes}
    for seed in range(settings.seed + 1, settings.seed + 1 + SEEDS):
        found = _pruned(probe, task, dataclasses.replace(settings, seed=seed), f"from seed {seed},")
        if found is None:
            continue
        hits += found.losses["circuit"] <= settings.target_loss
        names = {node.name for node in found.nodes}
        common.append(len(own & names) / max(1, len(own | names)))
        edges.append(found.counts["edges"])
    yield Figure(OTHER_SEEDS, share_interval(hits, SEEDS), "share", how)
    if common:
        yield Figure("nodes in common with them", mean_interval(np.array(common)), "Jaccard index", how)
    if edges and min(edges) > 0:
        yield Figure("edges of these, geometric mean", geometric_mean(edges), "edges", how)


def _backups(probe: Probe, task: Task, settings: PruneConfig) -> Iterator[Figure]:
    how, forbidden, latest = settings.ablation, set(settings.forbidden), probe.circuit
    for number in range(1, ROUNDS + 1):
        if not _inner_names(latest):
            return  # nothing to forbid: the same circuit would be found again
        forbidden |= _inner_names(latest)
        given = dataclasses.replace(settings, forbidden=tuple(sorted(forbidden)), compact=False)
        found = _pruned(probe, task, given, f"backup {number},")
        if found is None:
            return
        loss, error = found.losses["circuit"], found.losses["circuit_error"] or 0.0
        interval = Interval(loss, loss - 1.96 * error, loss + 1.96 * error)
        yield Figure(f"{BACKUP} {number}{LOSS}", interval, "nats", how)
        if not found.provenance["reached"]:
            return
        size = float(found.counts["edges"])
        yield Figure(f"{BACKUP} {number}{EDGES}", Interval(size), "edges", how)
        if number == 1:
            yield from _growth(probe, found)
        latest = found


def _inner_names(circuit: Circuit) -> set[str]:
    return {node.name for node in circuit.nodes if node.site in INNER_SITES}


def _growth(probe: Probe, backup: Circuit) -> Iterator[Figure]:
    """How much more a node of the backup matters, ablated alone, once the circuit's inner nodes are gone."""
    config = probe.model.config
    gone = {site: np.zeros(np.shape(gate), np.float32) for site, gate in probe.nodes.items()}
    gone |= {site: mask.astype(np.float32) for site, mask in inner(probe.nodes).items()}
    names = sorted(_inner_names(backup))
    if not names:
        return
    each = [select(config, [name]) for name in names]
    alone = {
        site: np.stack([0 * mask, *(one.get(site, 0 * mask) for one in each)]) for site, mask in gone.items()
    }
    effects = []
    for base in ({}, gone):
        masks = {site: np.maximum(mask, base.get(site, 0)) for site, mask in alone.items()}
        losses = losses_of(probe.margins_without(masks)).mean(axis=1)
        effects.append(losses[1:] - losses[0])
    low, middle, high = np.quantile(effects[1] - effects[0], [0.25, 0.5, 0.75])
    # the quartiles over nodes stand where other figures have an interval
    growth = Interval(float(middle), float(low), float(high))
    name = "growth of a backup node's effect once the circuit is gone (median, quartiles)"
    yield Figure(name, growth, "nats", probe.ablation)
