"""From gate logits to a circuit: the fewest best-ranked nodes whose loss reaches the target."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from sparse_jax.model.config import ModelConfig
from sparse_jax.model.forward import Params
from sparse_jax.pruning.gates import Gates, flatten, unflatten
from sparse_jax.pruning.objective import pair_losses
from sparse_jax.tasks.encode import EncodedPairs

CHUNK = 16


class Discretized(NamedTuple):
    """The chosen circuit: 0/1 gates, how many are open, its loss, and whether that reaches the target.

    curve: the loss of the k best-ranked nodes for k = 0, 1, ... as far as it was computed.
    """

    gates: dict[str, np.ndarray]
    k: int
    loss: float
    reached: bool
    curve: np.ndarray


def discretize(
    config: ModelConfig,
    params: Params,
    fills: Gates,
    logits: Gates,
    pairs: EncodedPairs,
    target_loss: float,
    objective: str = "binary",
) -> Discretized:
    """The smallest k whose k best-ranked nodes have a mean loss of at most `target_loss` on `pairs`.

    Nodes are ranked by their logit (ties: by site name, layer, index). The loss is not monotone in k
    (METHOD 6), so every k from 0 up is evaluated on the same pairs until the first that passes:
    exact, without assuming anything. If none passes, the k of the lowest loss is returned, not reached.
    """
    ranks = _ranks(logits)
    total = flatten(ranks).size
    evaluate = _compiled(config, objective)
    losses = np.zeros(0)
    for start in range(0, total + 1, CHUNK):
        ks = np.minimum(np.arange(start, start + CHUNK), total)
        found = np.asarray(evaluate(params, fills, ranks, pairs, ks))
        losses = np.append(losses, np.where(np.isnan(found), np.inf, found))
        if (losses <= target_loss).any():
            break
    losses = losses[: total + 1]
    reached = bool((losses <= target_loss).any())
    k = int(np.argmax(losses <= target_loss) if reached else np.argmin(losses))
    gates = {site: np.asarray(rank < k, np.float32) for site, rank in ranks.items()}
    return Discretized(gates, k, float(losses[k]), reached, losses)


def _ranks(logits: Gates) -> Gates:
    """The place of every node when sorted by descending logit, in the shapes of `logits`."""
    order = np.argsort(-np.asarray(flatten(logits)), kind="stable")
    ranks = np.empty(order.size, np.int32)
    ranks[order] = np.arange(order.size)
    return unflatten(jnp.asarray(ranks), logits)


@functools.cache
def _compiled(config: ModelConfig, objective: str):
    def evaluate(params, fills, ranks, pairs, ks):
        def mean_loss(k):
            gates = {site: (rank < k).astype(jnp.float32) for site, rank in ranks.items()}
            return pair_losses(config, params, gates, fills, pairs, objective).mean()

        return jax.lax.map(mean_loss, ks)

    return jax.jit(evaluate)
