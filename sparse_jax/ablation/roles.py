"""Whether kept nodes do in a circuit what they do in the model."""

import jax
import jax.numpy as jnp

from sparse_jax.circuits.gates import Gates
from sparse_jax.model import sites
from sparse_jax.tasks.packing import Pairs
from sparse_jax.trees import Arrays

# A node's variance counts as at least this share of the mean variance at its site and layer.
LEAST_VARIANCE = 1e-2


def role_error(gates: Gates, pruned: Arrays, full: Arrays, pairs: Pairs) -> jax.Array:
    """The mean unexplained variance of open nodes: mean (a - b)^2 / var(b), over nodes.

    gates: 0/1, [L, N] by site; other gates are passed over. pruned, full: values a and b of the circuit's and
    of the full model's run, by site [L, B, T, N]; tokens after both ends of a pair's prompts do not count.
    """
    length = pairs.tokens.shape[-1]
    ends_B = jnp.asarray(pairs.last).max(axis=-1) if pairs.tokens.ndim == 2 else jnp.ravel(pairs.last)
    counts_BxT = (jnp.arange(length) <= ends_B[:, None]).astype(jnp.float32)
    weights = (counts_BxT / counts_BxT.sum())[..., None]
    error, opened = jnp.float32(0), jnp.float32(0)
    for site, a in pruned.items():
        if site not in gates or sites.is_edge(site):
            continue
        b, gate = jnp.asarray(full[site]), jnp.asarray(gates[site])
        mean = (weights * b).sum(axis=(-3, -2), keepdims=True)
        variance = (weights * (b - mean) ** 2).sum(axis=(-3, -2))
        least = LEAST_VARIANCE * variance.mean(axis=-1, keepdims=True) + 1e-8
        unexplained = (weights * (a - b) ** 2).sum(axis=(-3, -2)) / jnp.maximum(variance, least)
        error, opened = error + (gate * unexplained).sum(), opened + gate.sum()
    return error / jnp.maximum(jax.lax.stop_gradient(opened), 1.0)
