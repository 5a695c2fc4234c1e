"""AbsTopK: in every row (last axis) only the entries of largest magnitude stay."""

from functools import partial

import jax
import jax.numpy as jnp
from jax import lax

from sparse_jax.inputs import require
from sparse_jax.topk import kernel
from sparse_jax.topk.keys import magnitude_keys
from sparse_jax.turns import in_turns


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
    return _abs_top_k(x.reshape(-1, width), k).reshape(x.shape)


@partial(jax.custom_vjp, nondiff_argnums=(1,))
def _abs_top_k(x_RxN, k: int):
    return _forward(x_RxN, k)[0]


def _forward(x_RxN, k: int):
    stays_RxN, is_whole_R = lax.platform_dependent(
        x_RxN,
        tpu=partial(_keep_largest, k=k, backend="tpu"),
        cuda=partial(_keep_largest, k=k, backend="cuda"),
        default=partial(_keep_reaching, k=k),
    )
    return stays_RxN, (stays_RxN, is_whole_R)


def _keep_largest(x_RxN, k: int, backend: str):
    """By the kernel, where it takes such rows."""
    if kernel.takes(x_RxN.shape[1], x_RxN.dtype, backend):
        return kernel.keep_largest(x_RxN, k, backend)
    return _keep_reaching(x_RxN, k)


def _keep_reaching(x_RxN, k: int):
    threshold_R = _row_thresholds(x_RxN, k)
    return jnp.where(magnitude_keys(x_RxN) >= threshold_R[:, None], x_RxN, 0), threshold_R == 0


def _backward(k: int, kept, slope_RxN):
    # What stays is kept for the product that follows anyway; a mask beside it would be a byte an entry more.
    stays_RxN, is_whole_R = kept
    return (jnp.where((magnitude_keys(stays_RxN) > 0) | is_whole_R[:, None], slope_RxN, 0),)


_abs_top_k.defvjp(_forward, _backward)


def abs_top_k_mask(x: jax.Array, k: int) -> jax.Array:
    """True [..., N] for the entries that `abs_top_k` keeps.

    Raises InputError for k < 1.
    """
    require(k >= 1, "k", k, "at least 1 entry kept per row")
    width = x.shape[-1]
    if k >= width:
        return jnp.ones(x.shape, bool)
    x_RxN = x.reshape(-1, width)
    return (magnitude_keys(x_RxN) >= _row_thresholds(x_RxN, k)[:, None]).reshape(x.shape)


def _row_thresholds(x_RxN, k: int):
    """The k-th largest key of every row, [R], or a smaller one that no further key of the row reaches."""
    return lax.platform_dependent(
        x_RxN, cpu=lambda x: _in_cache(x, k), default=lambda x: _search(magnitude_keys(x), k, digit_bits=3)
    )


def _search(keys_RxN, k: int, digit_bits: int):
    """The largest t that at least k keys of a row reach, from its highest digit down.

    Several counts share one read of the keys; how many passes there are does not depend on the keys, so that
    an accelerator need not ask after each.
    """
    key_bits = 8 * keys_RxN.dtype.itemsize - 1

    def next_digit(step, threshold_R):
        shift = jnp.maximum(key_bits - digit_bits * (step + 1), 0).astype(keys_RxN.dtype)
        digit_R = jnp.zeros_like(threshold_R)
        for value in range(1, 2**digit_bits):
            trial_R = threshold_R + (jnp.asarray(value, keys_RxN.dtype) << shift)
            # a trial beyond the largest key wraps to a negative number, which every key would reach
            reached_R = (_count(keys_RxN, trial_R) >= k) & (trial_R > threshold_R)
            digit_R += reached_R.astype(keys_RxN.dtype)
        return threshold_R + (digit_R << shift)

    passes = -(-key_bits // digit_bits)
    return lax.fori_loop(0, passes, next_digit, jnp.zeros(len(keys_RxN), keys_RxN.dtype))


def _in_cache(x_RxN, k: int):
    """The thresholds as a CPU finds them: a few rows at a time, and a bit at a time."""
    return in_turns(lambda x: _search_bits(_in_lanes(magnitude_keys(x)), k), [x_RxN], 4 * x_RxN.shape[1])


def _search_bits(keys_RxCxN, k: int):
    """From the highest bit down, until exactly k keys of every row reach its threshold, or no bit is left.

    Devices that hold different rows all go to the last bit: to stop early they would have to ask each other.
    """
    rows, dtype = len(keys_RxCxN), keys_RxCxN.dtype
    key_bits = 8 * dtype.itemsize - 1

    def next_bit(state):
        step, threshold_R, reach_R = state
        trial_R = threshold_R + (jnp.ones((), dtype) << (key_bits - 1 - step).astype(dtype))
        count_R = _count_in_lanes(keys_RxCxN, trial_R)
        higher_R = (count_R >= k) & (reach_R != k)
        return step + 1, jnp.where(higher_R, trial_R, threshold_R), jnp.where(higher_R, count_R, reach_R)

    def unfinished(state):
        step, _, reach_R = state
        left = step < key_bits
        return left if jax.device_count() > 1 else left & jnp.any(reach_R != k)

    everything = jnp.full(rows, jnp.iinfo(jnp.int32).max)
    start = jnp.int32(0), jnp.zeros(rows, dtype), everything
    return lax.while_loop(unfinished, next_bit, start)[1]


def _count(keys_RxN, threshold_R):
    return jnp.sum(keys_RxN >= threshold_R[:, None], axis=-1, dtype=jnp.int32)


def _in_lanes(keys_RxN):
    """[R, N] -> [R, at most 32, lanes], filled up with zeros, which no trial counts."""
    rows, width = keys_RxN.shape
    lanes = 16 * -(-width // 512)
    padded = jnp.pad(keys_RxN, [(0, 0), (0, -width % lanes)])
    return padded.reshape(rows, -1, lanes)


def _count_in_lanes(keys_RxCxN, threshold_R):
    # XLA keeps compare and count in one loop only for short int16 partial sums over vector lanes
    partial_RxN = jnp.sum(keys_RxCxN >= threshold_R[:, None, None], axis=1, dtype=jnp.int16)
    return jnp.sum(partial_RxN, axis=-1, dtype=jnp.int32)
