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
    width = x.shape[-1]
    if k >= width:
        return x
    # Flat rows, because XLA on a CPU otherwise writes a transposed copy for the weights' gradient.
    x_RxN = x.reshape(-1, width)
    keys_RxN = magnitude_keys(x_RxN)
    kept_RxN = keys_RxN >= _row_thresholds(keys_RxN, k)[:, None]
    return jnp.where(kept_RxN, x_RxN, 0).reshape(x.shape)


def _row_thresholds(keys_RxN, k: int):
    """The k-th largest key of every row, [R]: the largest t that at least k keys of the row reach."""
    # On a CPU, XLA keeps compare and count in one loop only for short int16 partial sums over vector lanes.
    # Elsewhere a plain sum is right, and several counts share one read of the keys.
    return lax.platform_dependent(
        keys_RxN,
        cpu=lambda keys: _search(_in_lanes(keys), k, _count_in_lanes, digit_bits=1),
        default=lambda keys: _search(keys, k, _count, digit_bits=3),
    )


def _search(keys, k: int, count, digit_bits: int):
    """Builds the thresholds from their highest digit down; `count(keys, t)` is how many reach t, [R]."""
    key_bits = 8 * keys.dtype.itemsize - 1

    def next_digit(step, threshold_R):
        shift = jnp.maximum(key_bits - digit_bits * (step + 1), 0).astype(keys.dtype)
        digit_R = jnp.zeros_like(threshold_R)
        for value in range(1, 2**digit_bits):
            trial_R = threshold_R + (jnp.asarray(value, keys.dtype) << shift)
            # a trial beyond the largest key wraps to a negative number, which every key would reach
            reached_R = (count(keys, trial_R) >= k) & (trial_R > threshold_R)
            digit_R += reached_R.astype(keys.dtype)
        return threshold_R + (digit_R << shift)

    passes = -(-key_bits // digit_bits)
    return lax.fori_loop(0, passes, next_digit, jnp.zeros(keys.shape[0], keys.dtype))


def _count(keys_RxN, threshold_R):
    return jnp.sum(keys_RxN >= threshold_R[:, None], axis=-1, dtype=jnp.int32)


def _in_lanes(keys_RxN):
    """[R, N] -> [R, at most 32, lanes], filled up with zeros, which no trial counts."""
    rows, width = keys_RxN.shape
    lanes = 16 * -(-width // 512)
    padded = jnp.pad(keys_RxN, [(0, 0), (0, -width % lanes)])
    return padded.reshape(rows, -1, lanes)


def _count_in_lanes(keys_RxCxN, threshold_R):
    partial_RxN = jnp.sum(keys_RxCxN >= threshold_R[:, None, None], axis=1, dtype=jnp.int16)
    return jnp.sum(partial_RxN, axis=-1, dtype=jnp.int32)
