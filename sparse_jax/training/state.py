"""What a training run carries from step to step."""

import dataclasses

import jax
import jax.numpy as jnp
import optax
from flax import struct

from sparse_jax.model.config import ModelConfig
from sparse_jax.model.forward import Params, initialize


@struct.dataclass
class TrainState:
    """step: int32 scalar, the number of updates made. opt_state holds moments, masks, thresholds."""

    step: jax.Array
    params: Params
    opt_state: optax.OptState


@dataclasses.dataclass(frozen=True)
class Position:
    """Where a run stands besides its TrainState, so that it goes on as if it had never stopped.

    data: the loader's state. rows: loss and gradient norm of each step that no written row counts yet.
    skipped: batches left out so far. masks: those of the last evaluation, if they are not the state's.
    """

    data: dict
    rows: list[tuple[float, float]] = dataclasses.field(default_factory=list)
    skipped: int = 0
    masks: object = None


def new_state(config: ModelConfig, optimizer: optax.GradientTransformation, seed: int) -> TrainState:
    """A fresh state; the same config and seed give the same bits."""
    params = initialize(config, jax.random.key(seed))
    return TrainState(jnp.int32(0), params, optimizer.init(params))
