"""The pure training step."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax

from sparse_jax.model.config import ModelConfig
from sparse_jax.model.forward import Params
from sparse_jax.training.loss import next_token_loss
from sparse_jax.training.state import TrainState

Metrics = dict[str, jax.Array]


def make_train_step(
    config: ModelConfig,
    optimizer: optax.GradientTransformation,
    accumulate: int = 1,
    stream: tuple[jax.sharding.Sharding, ...] = (),
    at: Callable[[TrainState], Params] | None = None,
) -> Callable[[TrainState, jax.Array], tuple[TrainState, Metrics]]:
    """A function (state, tokens [B, T + 1]) -> (state, metrics) for the next-token loss; see `make_step`.

    stream: shardings of the residual stream (`Transformer.stream`).
    """

    def loss(params: Params, tokens: jax.Array) -> jax.Array:
        return next_token_loss(config, params, tokens, stream=stream)

    return make_step(loss, optimizer, accumulate, at)


def make_step(
    loss: Callable[..., jax.Array],
    optimizer: optax.GradientTransformation,
    accumulate: int = 1,
    at: Callable[[TrainState], Params] | None = None,
) -> Callable[..., tuple[TrainState, Metrics]]:
    """A function (state, tokens [B, ...], *constants) -> (state, metrics), to be jitted once.

    loss: of (params, tokens, *constants), a mean over the rows of tokens. accumulate: the number of
    microbatches from which the gradient is accumulated; B must be a multiple of it. It reduces the memory of
    activations, and changes results only by the rounding of sums, if the loss is a mean of rows. at: the
    parameters that the loss and its gradient are taken at (default: those of the state).

    A step whose loss or gradients are not finite leaves the state unchanged and reports it in the metric
    "finite", so that the state in memory is always finite.
    """

    loss_and_gradients = jax.value_and_grad(loss)

    def train_step(state: TrainState, tokens: jax.Array, *constants: object) -> tuple[TrainState, Metrics]:
        def of_part(params: Params, tokens: jax.Array):
            return loss_and_gradients(params, tokens, *constants)

        params = state.params if at is None else at(state)
        value, gradients = _mean_of_parts(of_part, params, tokens, accumulate)
        gradient_norm = optax.tree.norm(gradients)
        finite = jnp.isfinite(value) & jnp.isfinite(gradient_norm)

        def advance(state: TrainState) -> TrainState:
            updates, opt_state = optimizer.update(gradients, state.opt_state, state.params)
            params = optax.apply_updates(state.params, updates)
            return TrainState(state.step + 1, params, opt_state)

        state = jax.lax.cond(finite, advance, lambda state: state, state)
        return state, {"loss": value, "gradient_norm": gradient_norm, "finite": finite}

    return train_step


def _mean_of_parts(loss_and_gradients: Callable, params: Params, tokens_BxT: jax.Array, accumulate: int):
    """The mean loss and gradients of a batch, computed in `accumulate` microbatches."""
    if accumulate == 1:
        return loss_and_gradients(params, tokens_BxT)

    def add(total, tokens):
        return jax.tree.map(jnp.add, total, loss_and_gradients(params, tokens)), None

    # a microbatch takes every n-th row, so that each device has equally many rows in each of them
    microbatches = tokens_BxT.reshape(-1, accumulate, tokens_BxT.shape[-1]).swapaxes(0, 1)
    nothing = jnp.float32(0), jax.tree.map(jnp.zeros_like, params)
    total, _ = jax.lax.scan(add, nothing, microbatches)
    return jax.tree.map(lambda x: x / accumulate, total)
