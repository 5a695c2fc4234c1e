"""Statistics of a sparse model: nonzero weights, mask changes, dead neurons, activation kurtosis."""

from collections.abc import Mapping

import jax
import jax.numpy as jnp

from sparse_jax.trees import named_leaves

_EMBEDDINGS = ("embed/kernel", "unembed/kernel")


def nonzero_weights(params: object) -> dict[str, jax.Array]:
    """Nonzero entries (L0) of every leaf by its name, int32."""
    return {name: jnp.sum(leaf != 0, dtype=jnp.int32) for name, leaf in named_leaves(params).items()}


def total_nonzero(params: object) -> dict[str, jax.Array]:
    """L0 of the 'layers', of both 'embeddings', of all 'other' leaves (bigram table, ...) and 'total'."""
    totals = {"layers": jnp.int32(0), "embeddings": jnp.int32(0), "other": jnp.int32(0)}
    for name, count in nonzero_weights(params).items():
        if name.startswith("layers/"):
            totals["layers"] += count
        elif name in _EMBEDDINGS:
            totals["embeddings"] += count
        else:
            totals["other"] += count
    return totals | {"total": sum(totals.values())}


def mask_turnover(before: object, after: object) -> jax.Array:
    """Share of the weights kept in `after` that were dropped in `before`; 0 where nothing is sparse.

    Both are mask pytrees (None where dense), as `ProjectionState.masks`.
    """
    pairs = list(zip(jax.tree.leaves(before), jax.tree.leaves(after), strict=True))
    returned = sum((jnp.sum(new & ~old, dtype=jnp.float32) for old, new in pairs), jnp.float32(0))
    kept = sum((jnp.sum(new, dtype=jnp.float32) for _, new in pairs), jnp.float32(0))
    return returned / jnp.maximum(kept, 1)


def dead_neurons(params: Mapping) -> dict[str, jax.Array]:
    """Counts mlp neurons without a nonzero incoming ('no_input') or outgoing ('no_output') weight, [L] each.

    'dead': without either. A bias does not count as an incoming weight: such a neuron is a constant.
    """
    mlp = params["layers"]["mlp"]
    no_input_LxF = jnp.all(mlp["up"]["kernel"] == 0, axis=1)
    no_output_LxF = jnp.all(mlp["down"]["kernel"] == 0, axis=2)
    found = {"no_input": no_input_LxF, "no_output": no_output_LxF, "dead": no_input_LxF | no_output_LxF}
    return {name: jnp.sum(marked, axis=-1, dtype=jnp.int32) for name, marked in found.items()}


def kurtosis(x: jax.Array) -> jax.Array:
    """Mean over channels of the excess kurtosis of each channel of `x` [..., D], taken over all other axes.

    0 for Gaussian channels, large where few activations stand out; channels that are constant
    (up to rounding) are left out.
    """
    x_NxD = x.reshape(-1, x.shape[-1]).astype(jnp.float32)
    centered_NxD = x_NxD - jnp.mean(x_NxD, axis=0)
    variance_D = jnp.mean(centered_NxD**2, axis=0)
    varies_D = variance_D > 1e-10 * jnp.mean(x_NxD**2, axis=0)
    fourth_D = jnp.mean(centered_NxD**4, axis=0)
    excess_D = fourth_D / jnp.where(varies_D, variance_D, 1) ** 2 - 3
    return jnp.sum(jnp.where(varies_D, excess_D, 0)) / jnp.maximum(jnp.sum(varies_D), 1)
