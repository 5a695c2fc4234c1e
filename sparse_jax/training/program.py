"""The compiled training step, for the available devices or for planned ones."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh, NamedSharding

from sparse_jax.model.forward import Params
from sparse_jax.training.config import RunConfig
from sparse_jax.training.evaluation import Evaluator
from sparse_jax.training.l0 import noisy_params
from sparse_jax.training.optimizer import sparse_optimizer
from sparse_jax.training.sharding import (
    batch_sharding,
    check_batch,
    make_mesh,
    placed,
    state_sharding,
    stream_sharding,
)
from sparse_jax.training.state import TrainState, new_state
from sparse_jax.training.step import make_train_step


class TrainProgram(NamedTuple):
    """The training step of a run on a mesh; nothing is computed or compiled yet.

    fresh: makes the initial state from the arrays `given`, if any. placed: its shapes with shardings. tokens:
    shape and sharding of a batch [B, T + 1]. step: the jitted step (state, tokens, *constants) -> (state,
    metrics); with `training.donate` its input state is donated. evaluator: from held-out windows and weights
    by source, a function from parameters to a row of numbers, of which one is "validation/mixture".
    constants: arrays that every step reads and none changes.
    """

    mesh: Mesh
    optimizer: optax.GradientTransformation
    fresh: Callable[..., TrainState]
    placed: TrainState
    tokens: jax.ShapeDtypeStruct
    step: jax.stages.Wrapped
    evaluator: Callable[[Mapping[str, np.ndarray], Mapping[str, float]], Callable[[Any], dict[str, float]]]
    given: tuple[Any, ...] = ()
    constants: tuple[Any, ...] = ()

    def start(self) -> TrainState:
        """The initial state, sharded."""
        return jax.jit(self.fresh, out_shardings=self.shardings)(*self.given)

    @property
    def shardings(self) -> TrainState:
        """The sharding of each leaf of the state."""
        return jax.tree.map(lambda leaf: leaf.sharding, self.placed)

    @property
    def rows(self) -> NamedSharding:
        """The sharding of a batch."""
        return self.tokens.sharding


def train_program(config: RunConfig, devices: Sequence[jax.Device] | None = None) -> TrainProgram:
    """The step of `config` on a mesh of `devices` (default: all).

    Raises InputError for a mesh that does not fit the devices, or a batch or a width that does not fit it.
    """
    training = config.training
    sizes = training.mesh_data, training.mesh_fsdp, training.mesh_tensor
    mesh = make_mesh(*sizes, devices=devices and list(devices))
    check_batch(mesh, training.batch_size, training.accumulate)
    optimizer = sparse_optimizer(
        config.optimizer, config.sparsity, training.steps, config.model.frozen, training.seed
    )

    def noisy(state: TrainState) -> Params:
        return noisy_params(state.opt_state, training.seed)

    def fresh() -> TrainState:
        return new_state(config.model, optimizer, training.seed)

    shapes = jax.eval_shape(fresh)
    shardings = state_sharding(mesh, shapes)
    rows = batch_sharding(mesh)
    at = noisy if config.sparsity.method == "l0" else None
    step = jax.jit(
        make_train_step(config.model, optimizer, training.accumulate, stream_sharding(rows), at),
        in_shardings=(shardings, rows),
        out_shardings=(shardings, None),
        donate_argnums=0 if training.donate else (),
    )
    tokens = training.batch_size, config.model.context + 1

    def evaluator(windows: Mapping[str, np.ndarray], weights: Mapping[str, float]) -> Evaluator:
        return Evaluator(config.model, windows, weights, training.batch_size, rows)

    return TrainProgram(
        mesh,
        optimizer,
        fresh,
        placed(shapes, shardings),
        jax.ShapeDtypeStruct(tokens, jnp.int32, sharding=rows),
        step,
        evaluator,
    )
