"""The loss of a gated model on pairs of prompts."""

import jax

from sparse_jax.model.config import ModelConfig
from sparse_jax.model.forward import Params, forward
from sparse_jax.model.hooks import Hooks
from sparse_jax.pruning.gates import Gates
from sparse_jax.tasks.encode import EncodedPairs
from sparse_jax.tasks.metrics import LOSSES


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
