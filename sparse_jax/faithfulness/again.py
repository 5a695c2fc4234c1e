"""Prunes again: from other seeds, for a control, and without the nodes that were found (backups)."""

import dataclasses
import functools
from collections.abc import Iterator, Sequence

import numpy as np

from sparse_jax.circuits.graph import Circuit
from sparse_jax.faithfulness.intervals import (
    Interval,
    geometric_mean,
    mean_interval,
    share_interval,
    statistic_interval,
)
from sparse_jax.faithfulness.probes import INNER_SITES, Probe, losses_of
from sparse_jax.faithfulness.scorecard import (
    BACKUP,
    CONTROL,
    EDGES,
    GROWTH,
    LOSS,
    OTHER_SEEDS,
    QUARTILES,
    TIMES,
    Figure,
)
from sparse_jax.inputs import InputError, from_mapping, require
from sparse_jax.model.nodes import select
from sparse_jax.pruning.config import PruneConfig
from sparse_jax.pruning.prune import find_circuits, reachable
from sparse_jax.pruning.recipe import Recipe
from sparse_jax.pruning.store import Store
from sparse_jax.pruning.subject import Subject
from sparse_jax.tasks.controls import ControlTask
from sparse_jax.tasks.task import Task
from sparse_jax.tasks.task_data import task_data

# Prunings from other seeds; unless told otherwise, the most backups that are looked for.
SEEDS, ROUNDS = 4, 2
# The control of the task (a name in CONTROLS) that is pruned like it.
ARBITRARY = "hashed"


def pruned_again(probe: Probe, task: Task, rounds: int = ROUNDS) -> Iterator[Figure]:
    """Figures of SEEDS prunings from other seeds, of one for a control, and of up to `rounds` backups.

    Each is one pruning of nodes with the settings that the circuit was found with, judged on the test split;
    one that breaks down, or whose pairs the full model misses, counts as a miss (a control that breaks down
    has no figures, nor has the control of a control). A backup is found while the q, k, v and neurons of the
    circuit, and of backups before it, are forbidden.
    Raises InputError for a circuit that does not say how it was found, and without a round.
    """
    require(rounds >= 1, "rounds", rounds, "at least 1")
    return _figures(probe, task, settings_of(probe.circuit), rounds)


def settings_of(circuit: Circuit) -> PruneConfig:
    """The settings that the circuit was found with, for its own target.

    Raises InputError if it does not say, and for one whose edges were pruned.
    """
    if "pruning" not in circuit.provenance:
        raise InputError(
            "circuit: it does not say how it was found; valid: one found by sparse_jax, or again=False "
            "(without --all)"
        )
    if circuit.edge_gated:
        raise InputError(
            "circuit: single edges of it were pruned, and circuits of nodes do not compare with it; "
            "valid: a circuit of nodes, or again=False (without --all)"
        )
    # of before there were swaps, none are told; the settings name one of the targets that were asked for
    given = {"swaps": False, **circuit.provenance["pruning"], "target_loss": circuit.losses["target"]}
    return from_mapping(PruneConfig, given, "pruning")


def _figures(probe: Probe, task: Task, settings: PruneConfig, rounds: int) -> Iterator[Figure]:
    yield from _seeds(probe, task, settings)
    if not isinstance(task, ControlTask):
        yield from _control(probe, ControlTask.of(task, ARBITRARY), settings)
    yield from _backups(probe, task, settings, rounds)


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


def _control(probe: Probe, control: ControlTask, settings: PruneConfig) -> Iterator[Figure]:
    name, how = f"{CONTROL} {control.control}", settings.ablation
    found = _pruned(probe, control, settings, "control")
    if found is None:
        return
    yield Figure(f"{name}{LOSS}", _loss(found), "nats", how)
    if found.provenance["reached"]:
        size, own = len(found.edges), len(probe.circuit.edges)
        yield Figure(f"{name}{EDGES}", Interval(float(size)), "edges", how)
        yield Figure(f"{name}{TIMES}", Interval(size / max(1, own)), "ratio", how)


def _loss(found: Circuit) -> Interval:
    loss, error = found.losses["circuit"], found.losses["circuit_error"]
    return Interval(loss) if error is None else Interval(loss, loss - 1.96 * error, loss + 1.96 * error)


def _backups(probe: Probe, task: Task, settings: PruneConfig, rounds: int) -> Iterator[Figure]:
    how, before, latest = settings.ablation, set[str](), probe.circuit
    for number in range(1, rounds + 1):
        if not _inner_names(latest):
            return  # nothing to forbid: the same circuit would be found again
        before |= _inner_names(latest)
        forbidden = tuple(sorted(before | set(settings.forbidden)))
        given = dataclasses.replace(settings, forbidden=forbidden, compact=False)
        found = _pruned(probe, task, given, f"backup {number},")
        if found is None:
            return
        yield Figure(f"{BACKUP} {number}{LOSS}", _loss(found), "nats", how)
        if not found.provenance["reached"]:
            return
        yield Figure(f"{BACKUP} {number}{EDGES}", Interval(float(found.counts["edges"])), "edges", how)
        yield from _growth(probe, sorted(_inner_names(found)), sorted(before), f"{BACKUP} {number}")
        latest = found


def _inner_names(circuit: Circuit) -> set[str]:
    return {node.name for node in circuit.nodes if node.site in INNER_SITES}


def _growth(probe: Probe, names: Sequence[str], before: Sequence[str], of: str) -> Iterator[Figure]:
    """How much more each of the nodes `names` matters, ablated alone, once those of `before` are gone."""
    config = probe.model.config
    nothing = {site: np.zeros(np.shape(gate), np.float32) for site, gate in probe.nodes.items()}
    if not names:
        return
    gone = {**nothing, **select(config, before)}
    each = [select(config, [name]) for name in names]
    alone = {site: np.stack([zero, *(one.get(site, zero) for one in each)]) for site, zero in nothing.items()}
    effects = []
    for base in (nothing, gone):
        masks = {site: np.maximum(mask, base[site]) for site, mask in alone.items()}
        losses_CxP = losses_of(probe.margins_without(masks))
        effects.append(losses_CxP[1:] - losses_CxP[0])
    growth_PxN = (effects[1] - effects[0]).T
    for name, share in QUARTILES.items():
        interval = statistic_interval(growth_PxN, functools.partial(np.quantile, q=share, axis=-1))
        by_node = dict(zip(names, growth_PxN.mean(axis=0).tolist())) if name == "median" else {}
        yield Figure(f"{of}{GROWTH}: {name}", interval, "nats", probe.ablation, by_node=by_node)
