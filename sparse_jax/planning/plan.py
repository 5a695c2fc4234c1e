"""A plan: what the training step and the pruning step of a run need on a topology, as one record each."""

import dataclasses
import importlib.metadata
import time
from collections.abc import Sequence
from typing import Any

import jax
from jax.stages import Compiled

from sparse_jax.model.forward import num_params, param_shapes
from sparse_jax.planning import programs
from sparse_jax.planning.estimate import by_kind, dollars, step_time
from sparse_jax.planning.flops import matmul_flops
from sparse_jax.planning.footprint import compile_if_it_fits, largest_that_fits, memory_of
from sparse_jax.planning.programs import Program
from sparse_jax.planning.topologies import Topology
from sparse_jax.planning.traffic import traffic
from sparse_jax.pruning.config import PruneConfig
from sparse_jax.pruning.program import LANES_TOGETHER
from sparse_jax.runtime.memory import free_on_host, held_bytes, usable
from sparse_jax.sparsity.config import SparsityConfig
from sparse_jax.training.config import RunConfig
from sparse_jax.training.sharding import batch_multiple
from sparse_jax.trees import named_leaves

Record = dict[str, Any]
# The most lanes per device to try: a task's search has no more.
MOST_LANES = 64


def plan_training(
    config: RunConfig, topology: Topology, devices: Sequence[jax.Device], price: float | None = None
) -> Record:
    """What one step and the whole run of `config` need.

    price: dollars per device and hour (default: list price). If the batch does not fit, the plan is for about
    the largest one that does ("batch_size"; None if none fits); "asked" is the configured one. Raises
    InputError for a mesh, batch or width that does not fit the devices.
    """
    training, context = config.training, config.model.context
    began = time.monotonic()
    program, limit = programs.training(config, devices), device_memory(topology)
    multiple = batch_multiple(program.mesh, training.accumulate)
    asked = training.batch_size
    batch: int | None = asked

    def of_batch(parts: int) -> Program:
        smaller = dataclasses.replace(training, batch_size=parts * multiple)
        return programs.training(dataclasses.replace(config, training=smaller), devices)

    compiled = compile_if_it_fits(program, limit)
    if compiled is None:
        batch = None
        if (found := largest_that_fits(of_batch, asked // multiple, limit)) is not None:
            batch, program, compiled = found[0] * multiple, of_batch(found[0]), found[1]
    record = {
        "program": "training",
        **_of_topology(topology),
        "parameters": num_params(param_shapes(config.model)),
        "asked": asked,
        "batch_size": batch,
        "fits": batch == asked,
        "context": context,
        "tokens": training.steps * asked * context,
        "compile_seconds": round(time.monotonic() - began, 1),
    }
    if compiled is None or batch is None:
        return record
    record |= _needs(program, compiled, topology)
    steps = record["tokens"] / (batch * context)
    return record | _of_run(record, topology, steps, price)


def plan_pruning(
    config: RunConfig,
    prune: PruneConfig,
    topology: Topology,
    devices: Sequence[jax.Device],
    price: float | None = None,
) -> Record:
    """What a step with about as many lanes as fit needs. "lanes": on all devices together, None if none fits.

    Like a run, the plan leaves a share of the memory free and has one lane per CPU device
    (`pruning.program`). Lanes do not communicate, so the needs of a device do not depend on the number of
    devices.
    """
    began = time.monotonic()

    def of_lanes(count: int) -> Program:
        return programs.pruning(config.model, prune, devices, count)

    most = MOST_LANES if topology.platform in LANES_TOGETHER else 1
    found = largest_that_fits(of_lanes, most + 1, usable(device_memory(topology)))
    record = {
        "program": "pruning",
        **_of_topology(topology),
        "fits": found is not None,
        "lanes": found and found[0] * len(devices),
        "pairs_per_step": prune.pairs_per_step,
        "context": config.model.context,
        "compile_seconds": round(time.monotonic() - began, 1),
    }
    if found is None:
        return record
    record |= _needs(of_lanes(found[0]), found[1], topology)
    return record | _of_run(record, topology, prune.steps, price)


def plan_update(config: RunConfig, topology: Topology, devices: Sequence[jax.Device]) -> Record:
    """Traffic between devices of the optimizer's update, with the top-k of the weights and without it.

    "matrix" is the smallest number of bytes of a matrix on a device: smaller transfers are not weights.
    Raises InputError for a mesh, batch or width that does not fit the devices.
    """
    record = {"program": "update", **_of_topology(topology)}
    for name, sparsity in {"top_k": config.sparsity, "dense": SparsityConfig()}.items():
        program = programs.optimizer_update(dataclasses.replace(config, sparsity=sparsity), devices)
        compiled = program.function.lower(*program.arguments).compile()
        moved = traffic(_text(compiled), topology.devices, program.loop_guess)
        record[name] = by_kind(moved.collectives)
    kernels = [leaf for name, leaf in named_leaves(program.held["parameters"]).items() if "kernel" in name]
    return record | {"mesh": program.mesh, "matrix": min(held_bytes(kernel) for kernel in kernels)}


def device_memory(topology: Topology) -> int:
    """Bytes per device that a program may use; simulated devices share the free memory of this machine."""
    if topology.chip is not None:
        return topology.chip.memory
    return free_on_host() // topology.devices


def _text(compiled: Compiled) -> str:
    text = compiled.as_text()
    assert text is not None  # all backends that are planned for provide it
    return text


def _of_topology(topology: Topology) -> Record:
    return {
        "topology": topology.name,
        "devices": topology.devices,
        "device_memory": device_memory(topology),
        "basis": _basis(topology),
    }


def _basis(topology: Topology) -> str:
    """The source of the memory and traffic numbers."""
    if topology.platform == "tpu":
        return f"compiled by libtpu {importlib.metadata.version('libtpu')}, jax {jax.__version__}"
    if topology.platform == "gpu":
        return f"compiled for CUDA, with no kernel tried out, jax {jax.__version__}"
    return f"compiled for CPU, jax {jax.__version__}"


def _needs(program: Program, compiled: Compiled, topology: Topology) -> Record:
    """Memory, FLOPs and traffic of one step; bytes per device, FLOPs over all devices."""
    moved = traffic(_text(compiled), topology.devices, program.loop_guess)
    flops = matmul_flops(program.function.trace(*program.arguments).jaxpr.jaxpr)
    record = {
        "mesh": program.mesh,
        "memory": memory_of(program, compiled),
        "flops": dict(flops),
        "bytes": round(moved.memory),
        "collectives": by_kind(moved.collectives),
        "guessed_loops": {"count": moved.guessed_loops, "runs": program.loop_guess},
    }
    if topology.chip is not None:
        own = {kind: count / topology.devices for kind, count in flops.items()}
        record["seconds"] = step_time(topology.chip, own, moved)._asdict()
    return record


def _of_run(record: Record, topology: Topology, steps: float, price: float | None) -> Record:
    """Time and cost of all steps; empty for a CPU, whose peak performance is unknown."""
    if topology.chip is None:
        return {}
    seconds = record["seconds"]
    price = topology.chip.price if price is None else price
    ends = {"least": max(seconds.values()), "apart": sum(seconds.values())}
    return {
        "steps": round(steps),
        "price": price,
        "hours": {name: steps * end / 3600 for name, end in ends.items()},
        "dollars": {name: dollars(steps * end, topology.devices, price) for name, end in ends.items()},
    }
