"""Which weights to keep first: a minimum for every channel, then the largest."""

import jax
import jax.numpy as jnp
from jax import lax

from sparse_jax.sparsity.rules import SparseLeaf
from sparse_jax.topk.keys import magnitude_keys

_FIRST = jnp.iinfo(jnp.int32).max - 1


def weight_keys(weights: jax.Array, leaf: SparseLeaf) -> jax.Array:
    """Ranks the weights of one leaf, float32, for `keep_largest`: int32 keys of shape `leaf.stack_shape`.

    The `leaf.protected` largest weights of every channel rank above all others, except exact zeros, which
    need no protection; the rest are ranked by magnitude. Within a channel, ties go to the lowest index.
    Protected weights count toward the weights that the matrix keeps. Source: METHOD section 3.
    """
    keys = magnitude_keys(weights).reshape(leaf.stack_shape)
    if leaf.channel_axis is None:
        return keys
    protected = largest_per_channel(keys, leaf.protected, leaf.channel_axis) & (keys > 0)
    return jnp.where(protected, _FIRST, keys)


def largest_per_channel(keys: jax.Array, count: int, axis: int) -> jax.Array:
    """Marks exactly the `count` largest keys along `axis`; ties go to the lowest index."""
    position = lax.broadcasted_iota(jnp.int32, keys.shape, axis % keys.ndim)
    for _ in range(count):
        largest = jnp.max(keys, axis=axis, keepdims=True)
        first = jnp.min(jnp.where(keys == largest, position, keys.shape[axis]), axis=axis, keepdims=True)
        keys = jnp.where(position == first, -1, keys)
    return keys < 0
