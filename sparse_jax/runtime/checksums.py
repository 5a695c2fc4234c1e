"""Checksums of a state's bits: the same on any mesh, and changed by every flipped bit."""

import jax
import jax.numpy as jnp
import numpy as np

from sparse_jax.trees import named_leaves


def checksums(tree: object) -> dict[str, int]:
    """A 32-bit number for every leaf by name, independent of sharding; entries have at most 4 bytes.

    The sum, modulo 2**32, of each entry's bits times an odd number that depends on its index. Integers can be
    added in any order, so devices and processes only have to exchange the sums.
    """
    return {name: int(value) for name, value in jax.device_get(_sums(named_leaves(tree))).items()}


@jax.jit
def _sums(leaves: dict[str, jax.Array]) -> dict[str, jax.Array]:
    return {name: jnp.sum(_bits(leaf) * _odd_numbers(leaf.shape)) for name, leaf in leaves.items()}


def _bits(leaf: jax.Array) -> jax.Array:
    """Each entry's bits as uint32."""
    if leaf.dtype == jnp.bool_:
        return leaf.astype(jnp.uint32)
    unsigned = jnp.dtype(f"uint{8 * leaf.dtype.itemsize}")
    return jax.lax.bitcast_convert_type(leaf, unsigned).astype(jnp.uint32)


def _odd_numbers(shape: tuple[int, ...]) -> jax.Array:
    """2 i + 1 for the i-th entry in row-major order, without a flat copy, which would be resharded."""
    places = jnp.zeros(shape, jnp.uint32)
    for axis in range(len(shape)):
        stride = np.uint32(int(np.prod(shape[axis + 1 :], dtype=object)) % 2**32)
        places += stride * jax.lax.broadcasted_iota(jnp.uint32, shape, axis)
    return 2 * places + 1
