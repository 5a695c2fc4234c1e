"""AbsTopK: in every row (last axis) only the entries of largest magnitude stay."""

import jax
import jax.numpy as jnp
from jax import lax

from sparse_jax.inputs import require
from sparse_jax.topk.keys import magnitude_keys


def abs_top_k(x: jax.Array, k: int) -> jax.Array:
    """`x` [..., N] with every entry set to 0 whose magnitude is below the k-th largest of its row.

    Ties: every entry as large as the k-th stays, so a row keeps at least k entries, and more only where
    magnitudes tie exactly at the cut (usual in bfloat16). NaN counts as the largest magnitude and stays.
    The gradient flows through kept entries only. `k` is static; k >= N is the identity.

    Raises InputError for k < 1. Source: METHOD section 2.
    """
    require(k >= 1, "k", k, "at least 1 entry kept per row")
    if k >= x.shape[-1]:
        return x
    keys = magnitude_keys(lax.stop_gradient(x))
    return jnp.where(keys >= _row_threshold(keys, k)[..., None], x, 0)


def _row_threshold(keys, k: int):
    """The k-th largest key of every row, [..., N] -> [...]: the largest t that at least k keys reach."""
    # XLA fuses a count into one loop on a CPU only as short int16 partial sums over vector lanes; elsewhere
    # the plain sum is right, and several counts share one read of the keys.
    return lax.platform_dependent(
        keys,
        cpu=lambda keys: _search(_in_lanes(keys), k, _count_in_lanes, keys.shape[:-1], digit_bits=1),
        default=lambda keys: _search(keys, k, _count, keys.shape[:-1], digit_bits=3),
    )


def _search(keys, k: int, count, rows: tuple[int, ...], digit_bits: int):
    """Builds the threshold from its highest digit down."""
    key_bits = 8 * keys.dtype.itemsize - 1

    def next_digit(step, threshold):
        shift = jnp.maximum(key_bits - digit_bits * (step + 1), 0).astype(keys.dtype)
        trials = [threshold + (jnp.asarray(d, keys.dtype) << shift) for d in range(1, 2**digit_bits)]
        # a trial beyond the largest key wraps to a negative number, which every key would reach
        digit = sum(((count(keys, t) >= k) & (t > threshold)).astype(keys.dtype) for t in trials)
        return threshold + (digit << shift)

    return lax.fori_loop(0, -(-key_bits // digit_bits), next_digit, jnp.zeros(rows, keys.dtype))


def _count(keys, threshold):
    return jnp.sum(keys >= threshold[..., None], axis=-1, dtype=jnp.int32)


_LANES, _CHUNK = 16, 32


def _in_lanes(keys):
    """[..., N] -> [..., chunks, rows of a chunk, lanes], filled up with zeros, which no trial counts."""
    width = keys.shape[-1]
    chunk = min(_CHUNK, -(-width // _LANES))
    padding = -width % (chunk * _LANES)
    keys = jnp.pad(keys, [(0, 0)] * (keys.ndim - 1) + [(0, padding)])
    return keys.reshape(*keys.shape[:-1], -1, chunk, _LANES)


def _count_in_lanes(keys, threshold):
    partial = jnp.sum(keys >= threshold[..., None, None, None], axis=-2, dtype=jnp.int16)
    return jnp.sum(partial, axis=(-2, -1), dtype=jnp.int32)
