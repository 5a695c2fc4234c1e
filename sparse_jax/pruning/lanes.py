"""Runs lanes of gate optimization: many prunings, of several tasks, in few compiled programs."""

import dataclasses
import os
import time
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from sparse_jax.circuits.gates import Gates, tie
from sparse_jax.model.config import ModelConfig
from sparse_jax.model.forward import Params
from sparse_jax.progress import Progress
from sparse_jax.pruning.config import PruneConfig
from sparse_jax.pruning.drop import can_compact, smallest_parts, still_alive, stops
from sparse_jax.pruning.lane_file import LaneFile
from sparse_jax.pruning.prepare import check_lanes, groups_to_run, new_states, typed_lanes
from sparse_jax.pruning.program import CHUNK, Plan, compiled_part, on_devices, plan_lanes
from sparse_jax.pruning.step import Lane, LaneState
from sparse_jax.tasks.encode import EncodedPairs
from sparse_jax.trees import Array, fingerprint

# About how long a chunk of steps takes; the host gets no metrics before its end.
CHUNK_SECONDS = 5.0


class Optimized(NamedTuple):
    """The final results of R lanes, on the host.

    logits: by gate, [R, ...]; with tied q and k there are none for k (`gates.tie`). history: "loss" and
    "open" gates [R, steps], before each step. failed: [R], whether a lane broke down (NaN or infinite
    values).
    """

    logits: Gates
    history: dict[str, np.ndarray]
    failed: np.ndarray


class _Progressing(NamedTuple):
    """All state that changes, as host arrays with leading axis R.

    alive: by gate, which logits may open again (`drop.still_alive`); empty if gates are never dropped.
    """

    states: LaneState
    history: dict[str, np.ndarray]
    alive: dict[str, np.ndarray]


def make_lanes(prune: PruneConfig, seeds: int = 1, tasks: int = 1) -> Lane:
    """`seeds` lanes for each of `tasks` tasks, grouped by task, with the hyperparameters of `prune`."""
    count = seeds * tasks
    hyper = jax.tree.map(lambda value: np.full(count, value, np.float32), prune.hyperparameters())
    seed = np.tile(np.arange(prune.seed, prune.seed + seeds), tasks)
    return Lane(np.repeat(np.arange(tasks), seeds), seed, hyper)


def repeated(gates: Gates, lanes: Lane) -> dict[str, np.ndarray]:
    """`gates` for each of the R lanes, [R, ...]: what `eligible` and `fixed` of a `Lane` need."""
    return {key: np.stack([np.asarray(gate)] * len(lanes.seed)) for key, gate in gates.items()}


def optimize_gates(
    config: ModelConfig,
    prune: PruneConfig,
    params: Params,
    means: Gates,
    tasks: Sequence[EncodedPairs],
    lanes: Lane,
    label: str = "prune",
    path: str | os.PathLike | None = None,
    text: Array | None = None,
) -> Optimized:
    """Optimizes the gates of R lanes (leading axis R); `lanes.task` is an index into `tasks`.

    Trains the nodes of `prune.sites`, or the gates that `lanes.eligible` names, e.g. edges (`edges_between`).
    A lane's result depends only on its own fields. Lanes are sharded over the devices of this process and run
    in groups that fit into memory. Pairs are padded only as far as their task needs, and the common
    beginning of their members is computed once. With a `path` the lanes' states are saved to that file, from
    which a killed run resumes, with the same bits on the same machine with as much free memory. With
    `prune.compact` gates are dropped during training (`drop`).

    Raises InputError for lanes, means or gates that do not fit the model, tasks with unequal numbers of
    pairs, a `path` that belongs to other lanes, and if not even one lane fits into memory.
    """
    check_lanes(config, prune, means, tasks, lanes, text)
    lanes = typed_lanes(lanes, prune)
    states = new_states(config, prune, lanes)
    empty = np.full((len(lanes.seed), prune.steps), np.nan, np.float32)
    settings = repr((compiled_part(prune), prune.gate))
    identity = fingerprint(repr(config), settings, params, means, list(tasks), lanes, text)
    file = LaneFile(path, identity)
    dropping = can_compact(prune, lanes)
    alive = {name: np.ones(tau.shape, bool) for name, tau in states.logits.items()} if dropping else {}
    found = _writable(file.load(_Progressing(states, {"loss": empty, "open": empty}, alive)))
    step_R, ends = found.states.step, stops(prune) if dropping else [prune.steps]
    progress = Progress(label, prune.steps * len(lanes.seed), "lane-steps", int(step_R.sum()))
    for shared, own, chosen, stop in groups_to_run(
        config, prune, params, means, tasks, lanes, step_R, ends, text
    ):
        shared = on_devices(shared)
        part_R = np.ones(len(step_R), int)
        if dropping:
            own, part_R = _without_dropped(config, prune, own, found.alive)
        for part in np.unique(part_R[chosen]):
            fitting = chosen[part_R[chosen] == part]
            # only a few different group sizes, so that few programs are compiled
            side = np.resize(fitting, min(len(chosen), 1 << (len(fitting) - 1).bit_length()))
            states = _take(found.states, side)
            plan = plan_lanes(config, prune, shared, _take(own, side), states, label, int(part))
            for start in range(0, len(fitting), plan.lanes):
                group = fitting[start : start + plan.lanes]
                _run_group(plan, shared, own, group, found, (stop, prune.steps), file, progress)
    progress.close()
    failed = ~np.isfinite(found.history["loss"]).all(axis=1)
    for tau in found.states.logits.values():
        failed |= ~np.isfinite(tau).reshape(len(failed), -1).all(axis=1)
    return Optimized(found.states.logits, found.history, failed)


def _without_dropped(config: ModelConfig, prune: PruneConfig, lanes: Lane, alive) -> tuple[Lane, np.ndarray]:
    """The lanes [R] with gates that are not `alive` closed, and the part of the width that each needs."""
    alive = tie(alive, prune.tied_qk)
    eligible = {name: mask.astype(np.float32) for name, mask in alive.items()}
    closed = {name: np.zeros_like(mask) for name, mask in eligible.items()}
    return dataclasses.replace(lanes, eligible=eligible, fixed=closed), smallest_parts(config, alive)


def _run_group(plan: Plan, shared, lanes, group, found: _Progressing, ends, file: LaneFile, progress):
    """Runs the lanes `group` up to `ends` = (the next stop, all steps), and stores the results in `found`.

    Runs a chunk of steps at a time and drops gates at the stop. Once all lanes of the group have broken down,
    it ends early: the rest of their history stays NaN.
    """
    stop, steps = ends
    padded = np.resize(group, plan.lanes)
    own, states = _take(lanes, padded), _take(found.states, padded)
    done, length = int(found.states.step[group[0]]), 1
    before = int(found.states.step.sum()) - done * len(group)
    while done < stop:
        began = time.monotonic()
        states, metrics = plan.run(np.int32(length), shared, own, states)
        for name, values in jax.device_get(metrics).items():
            found.history[name][group, done : done + length] = values[: len(group), :length]
        done += length
        figures = _figures(found.history, group, done - 1)
        if not np.isfinite(found.history["loss"][group, :done]).all(axis=1).any():
            states, done = states.replace(step=jnp.full_like(states.step, stop)), stop
        seconds = (time.monotonic() - began) / length
        if done == stop or file.due:
            _put(found.states, group, jax.device_get(states))
            if done == stop and found.alive:
                still = still_alive(found.states.logits, lanes.hyper.learning_rate, done, steps)
                _put(
                    found.alive,
                    group,
                    {name: found.alive[name][group] & still[name][group] for name in still},
                )
            file.save(found)
        progress.update(before + done * len(group), **figures)
        length = min(CHUNK, stop - done, max(1, int(CHUNK_SECONDS / seconds)))


def _take(tree, indices: np.ndarray):
    return jax.tree.map(lambda leaf: leaf[indices], tree)


def _put(tree, indices: np.ndarray, values) -> None:
    """Replaces rows of the host arrays of `tree`; further rows in `values` are padding."""
    for leaf, value in zip(jax.tree.leaves(tree), jax.tree.leaves(values), strict=True):
        leaf[indices] = value[: len(indices)]


def _writable(tree):
    return jax.tree.map(np.array, tree)


def _figures(history, group: np.ndarray, step: int) -> dict[str, float]:
    """The lowest loss and the fewest open gates of a group's lanes, for the progress line."""
    loss, opened = (history[name][group, step] for name in ("loss", "open"))
    working = opened[np.isfinite(opened)]  # the expected number of hard-concrete gates may break down, too
    return {
        "loss": float(np.min(loss, initial=np.inf, where=np.isfinite(loss))),
        "open": int(working.min()) if len(working) else 0,
    }
