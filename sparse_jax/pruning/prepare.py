"""Prepares lanes: checks and casts their inputs, and makes their initial states and what they share."""

import dataclasses
import operator
from collections.abc import Iterator, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from sparse_jax.ablation.kinds import RESAMPLED, can_pack
from sparse_jax.ablation.objective import full_log_probabilities
from sparse_jax.circuits.edge_gates import check_edges
from sparse_jax.circuits.gates import Gates, by_kind, tie
from sparse_jax.inputs import InputError, require
from sparse_jax.model import sites
from sparse_jax.model.config import ModelConfig
from sparse_jax.model.forward import Params
from sparse_jax.pruning.config import PruneConfig
from sparse_jax.pruning.logits import logit_shapes
from sparse_jax.pruning.step import Lane, LaneState, Shared, new_lane
from sparse_jax.tasks.encode import EncodedPairs
from sparse_jax.tasks.packing import PackedPairs, shortest
from sparse_jax.trees import Array


def check_lanes(
    config: ModelConfig,
    prune: PruneConfig,
    means: Gates,
    tasks: Sequence[EncodedPairs],
    lanes: Lane,
    text: Array | None = None,
) -> None:
    """Raises InputError for tasks, lanes, means, gates or text that do not fit each other or the model."""
    require(len(tasks) > 0, "tasks", [], "at least one task")
    counts = sorted({len(pairs.last) for pairs in tasks})
    require(len(counts) == 1, "tasks", counts, "equally many pairs in each")
    valid = f"at least pruning.pairs_per_step {prune.pairs_per_step}"
    require(counts[0] >= prune.pairs_per_step, "pairs", counts[0], valid)
    least = 2 if set(prune.kinds) & set(RESAMPLED) else 1
    require(counts[0] >= least, "pruning.train_pairs", counts[0], f"at least {least}, to resample from")
    if "resample_text" in prune.kinds:
        length = max(pairs.tokens.shape[-1] for pairs in tasks)
        fits = text is not None and text.shape[-1] >= length
        given = None if text is None else text.shape
        require(fits, "text", given, f"windows of training text of at least {length} tokens")
    count = len(lanes.seed)
    require(count > 0, "lanes", [], "at least one lane")
    for leaf in jax.tree.leaves(lanes):
        require(np.ndim(leaf) > 0 and len(leaf) == count, "lanes", np.shape(leaf), f"{count} along axis 0")
    task = np.asarray(lanes.task)
    valid = f"0 to {len(tasks) - 1}"
    require(task.min() >= 0 and task.max() < len(tasks), "lanes.task", task.tolist(), valid)
    valid = "False for a model without RMSNorm"
    require(not prune.frozen_norms or config.norm == "rms", "pruning.frozen_norms", True, valid)
    shapes = sites.node_shapes(config)
    needed = {*prune.ablation_sites, *lanes.fixed, *(lanes.eligible or {}), *means}
    for name, shape in shapes.items():
        found = np.shape(means[name]) if name in means else "missing"
        if name in needed and found != shape:
            raise InputError(f"means[{name!r}]: {found}; valid: {shape}, the means of this model")
    for gates in (lanes.fixed, lanes.eligible or {}):
        nodes, edges = by_kind(gates)
        check_edges(config, {name: gate[0] for name, gate in edges.items()})
        for name, gate in nodes.items():
            valid = f"{shapes.get(name, 'a site of nodes')} after the lanes"
            require(np.shape(gate)[1:] == shapes.get(name), f"gates[{name!r}]", np.shape(gate), valid)


def typed_lanes(lanes: Lane, prune: PruneConfig) -> Lane:
    """The same lanes in the types that the program is compiled for."""

    def cast(tree, kind):
        return jax.tree.map(lambda leaf: np.asarray(leaf, kind), tree)

    eligible = None if lanes.eligible is None else cast(tie(lanes.eligible, prune.tied_qk), np.float32)
    return Lane(
        cast(lanes.task, np.int32),
        cast(lanes.seed, np.uint32),
        cast(lanes.hyper, np.float32),
        eligible,
        cast(dict(lanes.fixed), np.float32),
    )


def new_states(config: ModelConfig, prune: PruneConfig, lanes: Lane) -> LaneState:
    """The states of lanes [R] before their first step, on the host."""
    shapes = logit_shapes(config, prune.sites, prune.tied_qk)
    if lanes.eligible is not None:
        every = {**sites.node_shapes(config), **sites.edge_shapes(config)}
        tied = prune.tied_qk and "q" in lanes.eligible
        shapes = {name: every[name] for name in lanes.eligible if not (tied and name == "k")}
    shapes = dict(sorted(shapes.items()))
    # eligible and fixed gates may be large, and no initial state depends on them
    bare = dataclasses.replace(lanes, eligible=None, fixed={})
    # one after the other: a program that draws for several lanes at once takes three times as long to compile
    each = (jax.tree.map(operator.itemgetter(lane), bare) for lane in range(len(lanes.seed)))
    states = jax.device_get([new_lane(shapes, lane) for lane in each])
    return jax.tree.map(lambda *leaves: np.stack(leaves), *states)


def groups_to_run(
    config: ModelConfig,
    prune: PruneConfig,
    params: Params,
    means: Gates,
    tasks: Sequence[EncodedPairs],
    lanes: Lane,
    steps_R: np.ndarray,
    stops: Sequence[int],
    text: Array | None = None,
) -> Iterator[tuple[Shared, Lane, np.ndarray, int]]:
    """Yields (what a group shares, all lanes, indices of the lanes to run, the step to reach).

    Tasks of all lanes are renumbered to match what is shared.
    The lanes to run are at the same step and have pairs of one form and length; those that a stopped run had
    begun come first. The caller runs them to that step (one of `stops`) before it asks for the next group:
    `steps_R` is read again then.
    """
    forms = [shortest(pairs, config.context, can_pack(prune.kinds)) for pairs in tasks]
    keys = [(isinstance(pairs, PackedPairs), pairs.tokens.shape[-1]) for pairs in forms]
    for key in sorted(set(keys)):
        own = np.flatnonzero([other == key for other in keys])
        lanes_R = np.isin(lanes.task, own)
        shared = None
        numbered = dataclasses.replace(lanes, task=np.searchsorted(own, lanes.task).astype(np.int32))
        for stop in stops:
            for done in np.unique(steps_R[lanes_R & (steps_R < stop)])[::-1]:
                shared = shared or _shared(config, prune, params, means, [forms[i] for i in own], text)
                yield shared, numbered, np.flatnonzero(lanes_R & (steps_R == done)), stop


def _shared(config: ModelConfig, prune: PruneConfig, params: Params, means: Gates, tasks, text) -> Shared:
    stacked = jax.tree.map(lambda *arrays: jnp.stack(arrays), *tasks)
    full = None
    if prune.objective in ("kl", "binary+kl"):
        full = full_log_probabilities(config, params, stacked, prune.pairs_per_step)
    return Shared(params, means, stacked, full, None if text is None else jnp.asarray(text))
