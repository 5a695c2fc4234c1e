"""What a state's bits add up to: the same on any mesh, and changed by any bit that is flipped."""

import jax
import jax.numpy as jnp
import numpy as np

from sparse_jax.trees import named_leaves


def checksums(tree: object) -> dict[str, int]:
    """A number of 32 bits for every leaf by its name, however the leaves (at most 4 bytes wide) lie.

    Sums modulo 2**32 of each entry's bits times an odd number that depends on its place. Integers may be
    added in any order, so devices and processes need not agree on more than the sum.
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
    """2 i + 1 for the i-th entry in row-major order, without a flat copy that would have to be moved."""
    places = jnp.zeros(shape, jnp.uint32)
    for axis in range(len(shape)):
        stride = np.uint32(int(np.prod(shape[axis + 1 :], dtype=object)) % 2**32)
        places += stride * jax.lax.broadcasted_iota(jnp.uint32, shape, axis)
    return 2 * places + 1
