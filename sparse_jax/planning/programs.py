"""The programs to plan, with the shapes of their arguments; nothing is computed."""

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from sparse_jax.model.config import ModelConfig
from sparse_jax.model.forward import param_shapes
from sparse_jax.model.sites import node_shapes
from sparse_jax.pruning.config import PruneConfig
from sparse_jax.pruning.lanes import make_lanes
from sparse_jax.pruning.logits import logit_shapes
from sparse_jax.pruning.prepare import typed_lanes
from sparse_jax.pruning.program import AXIS, compiled_part, device_mesh, lanes_program
from sparse_jax.pruning.step import Shared, new_lane
from sparse_jax.tasks.encode import EncodedPairs
from sparse_jax.training.config import RunConfig
from sparse_jax.training.program import train_program
from sparse_jax.training.sharding import placed


class Program(NamedTuple):
    """A jitted function and its arguments as shapes with shardings.

    held: by name, the shapes of what stays on the devices between steps. mesh: the sizes of its axes.
    loop_guess: how often a loop is assumed to run if the program does not say.
    """

    function: jax.stages.Wrapped
    arguments: tuple
    held: dict[str, object]
    mesh: dict[str, int]
    loop_guess: float


# The only loop of unknown length in a training step is the search for the weights' thresholds. From those of
# the last step it takes 3 to 7 passes if a pass counts several thresholds (measured on random updates).
_SEARCH_PASSES = 5


def training(config: RunConfig, devices: Sequence[jax.Device]) -> Program:
    """One step of training. Raises InputError for a mesh, batch or width that does not fit the devices."""
    program = train_program(config, devices)
    state = program.placed
    held = {"parameters": state.params, "optimizer": state.opt_state, "batch": program.tokens}
    arguments = state, program.tokens
    return Program(program.step, arguments, held, dict(program.mesh.shape), _SEARCH_PASSES)


def optimizer_update(config: RunConfig, devices: Sequence[jax.Device]) -> Program:
    """The part of a step after the gradients: moments, top-k of the weights, masks."""
    program = train_program(config, devices)
    state = program.placed
    given = state.params, state.opt_state, state.params
    places = jax.tree.map(lambda leaf: leaf.sharding, given)
    update = jax.jit(program.optimizer.update, in_shardings=places, out_shardings=places[:2])
    held = {"parameters": state.params, "optimizer": state.opt_state}
    return Program(update, given, held, dict(program.mesh.shape), _SEARCH_PASSES)


def pruning(
    config: ModelConfig, prune: PruneConfig, devices: Sequence[jax.Device], lanes_per_device: int
) -> Program:
    """One step of gate optimization, with this many lanes per device, on prompts of full context length."""
    mesh = device_mesh(devices)
    everywhere, split = NamedSharding(mesh, P()), NamedSharding(mesh, P(AXIS))
    means = _float32(node_shapes(config, prune.ablation_sites))
    pairs = _pairs(prune.train_pairs, config.context)
    shared: Any = placed(Shared(param_shapes(config), means, pairs), everywhere)
    lanes = typed_lanes(make_lanes(prune, seeds=lanes_per_device * len(devices)), prune)
    logits = logit_shapes(config, prune.sites, prune.tied_qk)
    states = jax.eval_shape(jax.vmap(functools.partial(new_lane, logits)), lanes)
    placed_lanes, placed_states = placed(lanes, split), placed(states, split)
    held = {
        "parameters": shared.params,
        "pairs": shared.tasks,
        "means": shared.means,
        "lanes": (placed_lanes, placed_states),
    }
    function = lanes_program(config, compiled_part(prune), mesh)
    steps = jax.ShapeDtypeStruct((), jnp.int32, sharding=everywhere)
    # the number of steps is an argument: the loop over them is the only one of unknown length
    return Program(function, (steps, shared, placed_lanes, placed_states), held, dict(mesh.shape), 1)


def _pairs(count: int, length: int) -> EncodedPairs:
    """Pairs given only as shapes."""
    shapes = (1, count, 2, length), (1, count, 2), (1, count, 2, 2)
    arrays: list[Any] = [jax.ShapeDtypeStruct(shape, jnp.int32) for shape in shapes]
    return EncodedPairs(*arrays)


def _float32(shapes: dict[str, tuple[int, ...]]) -> dict[str, Any]:
    return {name: jax.ShapeDtypeStruct(shape, jnp.float32) for name, shape in shapes.items()}
