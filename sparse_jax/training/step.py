"""The pure training step."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax

from sparse_jax.model.config import ModelConfig
from sparse_jax.training.loss import next_token_loss
from sparse_jax.training.state import TrainState

Metrics = dict[str, jax.Array]


def make_train_step(
    config: ModelConfig, optimizer: optax.GradientTransformation
) -> Callable[[TrainState, jax.Array], tuple[TrainState, Metrics]]:
    """A function (state, tokens [B, T + 1]) -> (state, metrics), to be jitted once.

    A step whose loss or gradients are not finite leaves the state as it was and says so in the metric
    "finite", so that the state in memory is always a good one.
    """

    def train_step(state: TrainState, tokens: jax.Array) -> tuple[TrainState, Metrics]:
        loss, gradients = jax.value_and_grad(lambda p: next_token_loss(config, p, tokens))(state.params)
        gradient_norm = optax.tree.norm(gradients)
        finite = jnp.isfinite(loss) & jnp.isfinite(gradient_norm)

        def advance(state: TrainState) -> TrainState:
            updates, opt_state = optimizer.update(gradients, state.opt_state, state.params)
            params = optax.apply_updates(state.params, updates)
            return TrainState(state.step + 1, params, opt_state)

        state = jax.lax.cond(finite, advance, lambda state: state, state)
        return state, {"loss": loss, "gradient_norm": gradient_norm, "finite": finite}

    return train_step
