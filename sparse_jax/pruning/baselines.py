"""Baselines: rankings of nodes without any training, to compare with learned gates.

Each returns scores in the form of gate logits, for `discretize_many` with a `growth`.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from sparse_jax.circuits.gates import Gates
from sparse_jax.model import sites
from sparse_jax.model.config import ModelConfig
from sparse_jax.model.forward import Params, forward
from sparse_jax.model.hooks import Hooks
from sparse_jax.pruning.config import PruneConfig
from sparse_jax.pruning.logits import logit_shapes
from sparse_jax.tasks.encode import EncodedPairs
from sparse_jax.tasks.metrics import LOSSES
from sparse_jax.trees import Array

Scores = dict[str, np.ndarray]
PAIRS = 16


def attribution(
    config: ModelConfig, params: Params, means: Gates, pairs: EncodedPairs, prune: PruneConfig
) -> Scores:
    """|gradient x (activation - mean)| of each node, summed over positions, averaged over prompts (METHOD 8).

    The gradient is that of the pair's loss in the full model. An incomplete last batch of pairs is dropped.
    Two nodes that share a gate (`tied_qk`) both get the sum of their scores.
    """
    size = min(PAIRS, len(pairs.last))
    run = _compiled_attribution(config, prune.sites, prune.judged_by)
    totals: dict[str, np.ndarray] = {}
    batches = len(pairs.last) // size
    for start in range(0, batches * size, size):
        batch = EncodedPairs(*(array[start : start + size] for array in pairs))
        found = jax.device_get(run(params, {site: means[site] for site in prune.sites}, batch))
        totals = {site: totals.get(site, 0) + found[site] / batches for site in prune.sites}
    return _tied(totals, prune)


def random_scores(config: ModelConfig, prune: PruneConfig, seed: int) -> Scores:
    """A random ranking of the nodes."""
    rng = np.random.default_rng(seed)
    shapes = logit_shapes(config, prune.sites, prune.tied_qk)
    return {site: rng.random(shape) for site, shape in shapes.items()}


def weight_magnitudes(config: ModelConfig, params: Params, prune: PruneConfig) -> Scores:
    """The sum of |weight| over all weights into and out of each node.

    These weights are the edges (METHOD 7); for `embed` also the embedding and added positions, and for
    `final_resid` the unembedding.
    """
    shapes = sites.node_shapes(config, prune.sites)
    scores = {site: np.zeros(shape) for site, shape in shapes.items()}
    for source, target, sublayer, matrix in sites.EDGE_MATRICES:
        magnitude = np.abs(np.asarray(params["layers"][sublayer][matrix]["kernel"], np.float64))
        scores[source] += magnitude.sum(axis=2)
        scores[target] += magnitude.sum(axis=1)
    if sites.EMBED_SITE in scores:
        for table in ("embed", "position") if config.positions == "added" else ("embed",):
            scores[sites.EMBED_SITE] += np.abs(np.asarray(params[table]["kernel"], np.float64)).sum(axis=0)
    if sites.FINAL_SITE in scores:
        unembedding = params["embed"]["kernel"].T if config.tied_embedding else params["unembed"]["kernel"]
        scores[sites.FINAL_SITE] += np.abs(np.asarray(unembedding, np.float64)).sum(axis=1)
    return _tied(scores, prune)


def _tied(scores: Scores, prune: PruneConfig) -> Scores:
    if not prune.tied_qk:
        return scores
    return {
        site: score + scores["k"] if site == "q" else score for site, score in scores.items() if site != "k"
    }


@functools.cache
def _compiled_attribution(config: ModelConfig, names: tuple[str, ...], objective: str):
    def loss(added, params, pairs):
        """The loss of all pairs with `added` added at every site, and the values at the sites."""
        hooks = Hooks(additions=added, capture=names)
        logits, values = forward(config, params, _flat(pairs.tokens), hooks, _ends(pairs))
        return LOSSES[objective](logits.reshape(*pairs.last.shape, -1), pairs.candidates).sum(), values

    def run(params, means, pairs):
        shapes = jax.eval_shape(lambda: loss({}, params, pairs)[1])
        nothing = jax.tree.map(lambda shape: jnp.zeros(shape.shape, shape.dtype), shapes)
        # adding zeros lets one backward pass give the gradient of every node's value
        gradients, values = jax.grad(loss, has_aux=True)(nothing, params, pairs)
        return {site: _scores(site, gradients[site], values[site], means[site]) for site in names}

    return jax.jit(run)


def _flat(array_Px2: Array) -> Array:
    """Both members of every pair, one after the other."""
    return array_Px2.reshape(-1, *array_Px2.shape[2:])


def _ends(pairs: EncodedPairs) -> Array:
    """The last token of every prompt, [B, 1]: values at the final site keep an axis of positions."""
    return _flat(pairs.last)[:, None]


def _scores(site: str, gradients, values, means) -> jax.Array:
    """[L, B, T, N] ([B, T, N] at the embedding, [B, 1, N] at the final site) -> [L, N] ([N])."""
    if site in sites.UNLAYERED_SITES:
        return jnp.abs(gradients * (values - means)).sum(axis=1).mean(axis=0)
    return jnp.abs(gradients * (values - means[:, None, None])).sum(axis=2).mean(axis=1)
