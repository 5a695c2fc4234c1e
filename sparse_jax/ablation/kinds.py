"""Kinds of ablation: what closed nodes carry while gates are trained (METHOD 6 and 8)."""

import jax
import jax.numpy as jnp

from sparse_jax.circuits.gates import Gates
from sparse_jax.model.config import ModelConfig
from sparse_jax.model.forward import Params, forward
from sparse_jax.model.hooks import Hooks
from sparse_jax.tasks.encode import EncodedPairs

# For each training objective, the loss (a name in LOSSES) by which circuits are judged.
OBJECTIVES = {
    "binary": "binary",
    "full_vocabulary": "full_vocabulary",
    "kl": "binary",
    "binary+kl": "binary",
}
CONSTANT_ABLATIONS = ("mean", "zero")
ABLATIONS = (*CONSTANT_ABLATIONS, "resample", "mixture")


def draw_ablated(
    config: ModelConfig, params: Params, kind: str, means: Gates, pairs: EncodedPairs, key: jax.Array
) -> Gates:
    """Ablation values of `kind` for every site of `means`: [L, N], or drawn for these pairs, [L, B, T, N].

    "resample" is the node's value in the full model at the same position of another sequence of the batch (at
    its last token if that sequence is shorter); "mixture" is u * mean + (1 - u) * resampled, with a uniform u
    drawn for every sequence and node, so that a circuit cannot rely on a single ablation.
    """
    if kind in CONSTANT_ABLATIONS:
        return constant_ablated(kind, means)
    donor_key, share_key = jax.random.split(key)
    resampled = _values_elsewhere(config, params, tuple(means), pairs, donor_key)
    if kind == "resample":
        return resampled
    keys = jax.random.split(share_key, len(means))
    return {
        site: _mixed(jax.random.uniform(key, (*x.shape[:-2], 1, x.shape[-1])), means[site], x)
        for key, (site, x) in zip(keys, resampled.items())
    }


def constant_ablated(kind: str, means: Gates) -> Gates:
    """The ablation values [L, N] of the constant kinds, "mean" and "zero"."""
    return means if kind == "mean" else jax.tree.map(jnp.zeros_like, means)


def _mixed(share, mean, x):
    return share * mean[..., None, None, :] + (1 - share) * x


def _values_elsewhere(config, params, names, pairs, key):
    """Values at the sites `names`, where every sequence gets those of another one, the same for all nodes."""
    tokens_BxT = pairs.tokens.reshape(-1, pairs.tokens.shape[-1])
    batch, length = tokens_BxT.shape
    donor_B = (jnp.arange(batch) + jax.random.randint(key, (), 1, batch)) % batch
    place_BxT = jnp.minimum(jnp.arange(length), jnp.ravel(pairs.last)[donor_B][:, None])
    captured = forward(config, params, tokens_BxT, Hooks(capture=names))[1]

    def elsewhere(x):
        x = jnp.take(x, donor_B, axis=-3)
        return jnp.take_along_axis(
            x, place_BxT[..., None] if x.ndim == 3 else place_BxT[None, ..., None], axis=-2
        )

    return {site: elsewhere(x) for site, x in captured.items()}
