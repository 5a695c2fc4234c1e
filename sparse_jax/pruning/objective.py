"""The loss of a gated model on pairs of prompts."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from sparse_jax.model.config import ModelConfig
from sparse_jax.model.forward import Params, forward
from sparse_jax.model.hooks import Hooks
from sparse_jax.pruning.gates import Gates
from sparse_jax.tasks.encode import EncodedPairs

LossFunction = Callable[[jax.Array, jax.Array], jax.Array]


def last_logits(
    config: ModelConfig, params: Params, gates: Gates, fills: Gates, pairs: EncodedPairs
) -> jax.Array:
    """Logits [P, 2, V] at the last token of both members of each pair, under the gates."""
    n_pairs, members, length = pairs.tokens.shape
    fills = {site: fills[site] for site in gates}
    logits, _ = forward(
        config,
        params,
        pairs.tokens.reshape(n_pairs * members, length),
        Hooks(gates, fills),
        at_B=pairs.last.reshape(-1),
    )
    return logits.reshape(n_pairs, members, -1)


def binary_loss(logits_Px2xV: jax.Array, candidates_Px2x2: jax.Array) -> jax.Array:
    """Cross-entropy over the two candidates, mean over both members: [P] in nats (METHOD 5)."""
    two = jnp.take_along_axis(logits_Px2xV, candidates_Px2x2, axis=-1)
    return -jax.nn.log_softmax(two, axis=-1)[..., 0].mean(axis=-1)


def full_vocabulary_loss(logits_Px2xV: jax.Array, candidates_Px2x2: jax.Array) -> jax.Array:
    """Cross-entropy of the right token among all, mean over both members: [P] in nats."""
    right = candidates_Px2x2[..., :1]
    log_probabilities = jax.nn.log_softmax(logits_Px2xV, axis=-1)
    return -jnp.take_along_axis(log_probabilities, right, axis=-1)[..., 0].mean(axis=-1)


LOSSES: dict[str, LossFunction] = {"binary": binary_loss, "full_vocabulary": full_vocabulary_loss}


def pair_losses(
    config: ModelConfig,
    params: Params,
    gates: Gates,
    fills: Gates,
    pairs: EncodedPairs,
    objective: str = "binary",
) -> jax.Array:
    """The loss [P] of every pair under the gates; gates of no site at all give the whole model's."""
    logits = last_logits(config, params, gates, fills, pairs)
    return LOSSES[objective](logits, pairs.candidates)
