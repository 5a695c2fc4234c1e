"""Magnitudes as integers, with exact order, ties and zeros, and without flushing denormals."""

import jax
import jax.numpy as jnp
from jax import lax


def magnitude_keys(x: jax.Array) -> jax.Array:
    """The bit pattern of |x| as a non-negative signed integer of the same width (16 bits for bfloat16).

    Keys order exactly as magnitudes do: 0 and -0 have key 0, infinity comes after every number and NaN last.
    The largest integer is not a key, so it can mean "above every key".
    """
    pattern = jnp.dtype(f"int{8 * x.dtype.itemsize}")
    above_all = jnp.iinfo(pattern).max
    return jnp.minimum(lax.bitcast_convert_type(x, pattern) & above_all, above_all - 1)
