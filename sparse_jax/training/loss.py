"""Next-token cross-entropy."""

import jax
import optax

from sparse_jax.model.config import ModelConfig
from sparse_jax.model.forward import Params, forward
from sparse_jax.model.transformer import Shardings


def next_token_loss(
    config: ModelConfig, params: Params, tokens: jax.Array, stream: Shardings = ()
) -> jax.Array:
    """Mean cross-entropy in nats over all positions of tokens [B, T + 1], in float32."""
    logits, _ = forward(config, params, tokens[:, :-1], stream=stream)
    return cross_entropy(logits, tokens)


def cross_entropy(logits: jax.Array, tokens: jax.Array) -> jax.Array:
    """The mean in nats of logits [B, T, V] for the last T of tokens [B, T + 1]."""
    return optax.softmax_cross_entropy_with_integer_labels(logits, tokens[:, 1:]).mean()
