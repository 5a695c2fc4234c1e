"""The compiled program of a group of lanes: a chunk of steps at a time, the lanes sharded over devices."""

import dataclasses
import functools
import math
import sys
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P
from jax.stages import Compiled

from sparse_jax.ablation.draws import constant_ablated
from sparse_jax.circuits.narrowing import full_widths, narrow_model, narrowed
from sparse_jax.model.config import ModelConfig
from sparse_jax.pruning.config import PruneConfig
from sparse_jax.pruning.drop import alive_nodes
from sparse_jax.pruning.step import Lane, LaneState, Shared, lane_step
from sparse_jax.runtime import memory

AXIS = "lanes"
# The most steps per call; their metrics come to the host together.
CHUNK = 50
# Platforms where lanes run side by side. On a CPU two lanes take twice as long as one, and more memory.
LANES_TOGETHER = ("gpu", "tpu")
# The fields of PruneConfig that are compiled in; the others are given by the lanes or used after them.
COMPILED_FIELDS = (
    "steps",
    "pairs_per_step",
    "train_pairs",
    "objective",
    "gate",
    "ablation",
    "role_coef",
    "tied_qk",
    "sites",
    "frozen_norms",
    "compact",
)


class Plan(NamedTuple):
    """A program for `lanes` lanes at once, on all devices together."""

    run: Compiled
    lanes: int


def platform() -> str:
    """The platform of the devices that lanes run on."""
    return jax.local_devices()[0].platform


def device_mesh(devices: Sequence[jax.Device] | None = None) -> Mesh:
    """A one-dimensional mesh; by default of all devices of this process."""
    devices = devices or jax.local_devices()
    return jax.make_mesh((len(devices),), (AXIS,), axis_types=(AxisType.Auto,), devices=devices)


def compiled_part(prune: PruneConfig) -> PruneConfig:
    """`prune` with all fields that do not affect the program at their defaults."""
    fields = {name: getattr(prune, name) for name in COMPILED_FIELDS}
    return dataclasses.replace(PruneConfig(), **fields)


def plan_lanes(
    config: ModelConfig,
    prune: PruneConfig,
    shared: Shared,
    lanes: Lane,
    states: LaneState,
    label: str,
    part: int = 1,
) -> Plan:
    """Compiles for all lanes [R] at once or, if memory is short, for groups of equal size, and reports it.

    part: the nodes alive in these lanes fit into 1 / part of the model's width (`narrow_model`). The group
    size is a multiple of the number of devices; on a CPU it is that number. Raises InputError if not even one
    lane per device fits.
    """
    mesh = device_mesh()
    devices, count = len(mesh.devices), len(lanes.seed)
    free = memory.free_bytes(list(mesh.devices))

    def build(per_device: int) -> Compiled:
        shapes = (
            _shapes(shared),
            _resized(lanes, per_device * devices),
            _resized(states, per_device * devices),
        )
        leaves, structure = jax.tree.flatten(shapes)
        return _compiled(config, compiled_part(prune), part, mesh, tuple(leaves), structure)

    most = -(-count // devices) if platform() in LANES_TOGETHER else 1
    needed = _needed_bytes(build, most)
    if needed <= free:
        return Plan(build(most), most * devices)
    one, two = (_needed_bytes(build, lanes) for lanes in (1, 2))
    fitting = min(memory.lanes_that_fit(one, two, free), max(1, most - 1))
    # the estimate from two lanes may be too optimistic
    while fitting > 1 and _needed_bytes(build, fitting) > free:
        fitting -= 1
    groups = -(-most // fitting)
    per_device = -(-most // groups)
    print(
        f"{label}: {count} lanes in {groups} groups of {per_device * devices}: "
        f"{memory.said_of(one, two)} and {memory.gigabytes(free)} are free on each device",
        file=sys.stderr,
    )
    return Plan(build(per_device), per_device * devices)


def on_devices(shared: Shared) -> Shared:
    """`shared`, on every device."""
    return jax.device_put(shared, NamedSharding(device_mesh(), P()))


def _needed_bytes(build, lanes: int) -> float:
    """Memory per device of the program that `build` makes; infinite if the compiler says it cannot fit."""
    try:
        return memory.needed_bytes(build(lanes))
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        return math.inf


@functools.lru_cache(maxsize=32)
def _compiled(config: ModelConfig, prune: PruneConfig, part: int, mesh: Mesh, leaves, structure) -> Compiled:
    length = jax.ShapeDtypeStruct((), jnp.int32)
    program = lanes_program(config, prune, mesh, part)
    return program.lower(length, *jax.tree.unflatten(structure, leaves)).compile()


def lanes_program(config: ModelConfig, prune: PruneConfig, mesh: Mesh, part: int = 1) -> jax.stages.Wrapped:
    """A jitted function of (number of steps, what lanes share, lanes [R], states [R]), R split over `mesh`.

    It returns the states and the metrics of these steps (at most CHUNK); the given states are donated.
    """

    def one_lane(length, shared, lane, state):
        narrow = None
        if part > 1:
            ablated = constant_ablated(prune.ablation, shared.means)
            widths = narrowed(full_widths(config), part)
            narrow = narrow_model(config, shared.params, ablated, alive_nodes(config, lane), widths)

        def step(i, carry):
            state, history = carry
            state, metrics = lane_step(config, prune, shared, lane, state, narrow)
            return state, jax.tree.map(lambda past, now: past.at[i].set(now), history, metrics)

        empty = {name: jnp.zeros(CHUNK) for name in ("loss", "open")}
        return jax.lax.fori_loop(0, length, step, (state, empty))

    def local_lanes(length, shared, lanes, states):
        run = functools.partial(one_lane, length, shared)
        if len(lanes.seed) > 1:
            return jax.vmap(run)(lanes, states)
        only = run(*jax.tree.map(lambda leaf: leaf[0], (lanes, states)))
        return jax.tree.map(lambda leaf: leaf[None], only)

    # every device runs its own lanes: there is no communication
    run = jax.shard_map(
        local_lanes, mesh=mesh, in_specs=(P(), P(), P(AXIS), P(AXIS)), out_specs=P(AXIS), check_vma=False
    )
    everywhere, split = NamedSharding(mesh, P()), NamedSharding(mesh, P(AXIS))
    given = (everywhere, everywhere, split, split)
    return jax.jit(run, in_shardings=given, out_shardings=split, donate_argnums=3)


def _shapes(tree):
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), tree)


def _resized(tree, lanes: int):
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct((lanes, *leaf.shape[1:]), leaf.dtype), tree)
