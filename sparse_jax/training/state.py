"""The state of a training run between steps."""

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
    """What is needed besides the TrainState to resume a run as if it had never stopped.

    data: the loader's state. rows: loss and gradient norm of each step that is not yet part of a written row.
    skipped: batches skipped so far. masks: those of the last evaluation, if they differ from the state's.
    ended: whether the run has reached the loss that it was to reach.
    """

    data: dict
    rows: list[tuple[float, float]] = dataclasses.field(default_factory=list)
    skipped: int = 0
    masks: object = None
    ended: bool = False


def new_state(config: ModelConfig, optimizer: optax.GradientTransformation, seed: int) -> TrainState:
    """A fresh state; the same config and seed give the same bits."""
    params = initialize(config, jax.random.key(seed))
    return TrainState(jnp.int32(0), params, optimizer.init(params))
