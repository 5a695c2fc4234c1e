"""AbsTopK: keeps the entries of largest magnitude in every row (last axis)."""

from functools import partial

import jax
import jax.numpy as jnp
from jax import lax

from sparse_jax.inputs import require
from sparse_jax.topk import kernel
from sparse_jax.topk.chunks import in_chunks
from sparse_jax.topk.keys import magnitude_keys

# Bytes per entry that a CPU reads: the number and its key.
ENTRY_BYTES = 8
_MANY = jnp.iinfo(jnp.int32).max


def abs_top_k(x: jax.Array, k: int, reused: bool = True) -> jax.Array:
    """`x` [..., N] with every entry set to 0 whose magnitude is below the k-th largest of its row.

    reused: whether the consumer keeps the result for its own gradient, as a matrix product does; then the
    gradient here costs no memory. Otherwise one byte per entry is stored. Results do not depend on it.

    Ties: every entry as large as the k-th stays, so a row keeps at least k entries, and more only where
    magnitudes tie exactly at the cut (usual in bfloat16). NaN counts as the largest magnitude and stays.
    The gradient flows through kept entries only. `k` is static; k >= N is the identity.

    Raises InputError for k < 1. Source: METHOD section 2.
    """
    require(k >= 1, "k", k, "at least 1 entry kept per row")
    width = x.shape[-1]
    if k >= width:
        return x
    # Flatten the rows, because XLA on a CPU otherwise writes a transposed copy for the weights' gradient.
    return _abs_top_k(x.reshape(-1, width), k, reused).reshape(x.shape)


@partial(jax.custom_vjp, nondiff_argnums=(1, 2))
def _abs_top_k(x_RxN, k: int, reused: bool):
    return _forward(x_RxN, k, reused)[0]


# traced once for all calls with one shape, since every platform's branch is
@partial(jax.jit, static_argnums=(1, 2), inline=True)
def _forward(x_RxN, k: int, reused: bool):
    def kept_by(keep):
        def kept(x_RxN):
            stays_RxN, is_whole_R = keep(x_RxN, k)
            return stays_RxN, is_whole_R if reused else _passes(stays_RxN, is_whole_R)

        return kept

    in_cache = partial(in_chunks, kept_by(_keep_in_lanes), row_bytes=ENTRY_BYTES * x_RxN.shape[1])
    stays_RxN, kept = lax.platform_dependent(
        x_RxN,
        tpu=kept_by(partial(_keep_largest, backend="tpu")),
        cuda=kept_by(partial(_keep_largest, backend="cuda")),
        # Residuals are computed in the same chunk: otherwise XLA would keep `x` and recompute them.
        cpu=lambda x_RxN: in_cache([x_RxN]),
        default=kept_by(_keep_by_digits),
    )
    return stays_RxN, (stays_RxN, kept) if reused else kept


def _keep_largest(x_RxN, k: int, backend: str):
    """Uses the kernel if it takes such rows."""
    if kernel.takes(x_RxN.shape[1], x_RxN.dtype, backend):
        return kernel.keep_largest(x_RxN, k, backend)
    return _keep_by_digits(x_RxN, k)


def _keep_by_digits(x_RxN, k: int):
    return _reaching(x_RxN, _search_digits(magnitude_keys(x_RxN), k))


def _keep_in_lanes(x_RxN, k: int):
    return _reaching(x_RxN, _search_in_lanes(magnitude_keys(x_RxN), k))


def _reaching(x_RxN, threshold_R):
    """The entries that reach the thresholds, and a mask [R] of unchanged rows: those with fewer nonzeros."""
    return jnp.where(magnitude_keys(x_RxN) >= threshold_R[:, None], x_RxN, 0), threshold_R == 0


def _backward(k: int, reused: bool, kept, gradient_RxN):
    passes_RxN = _passes(*kept) if reused else kept
    return (jnp.where(passes_RxN, gradient_RxN, 0),)


_abs_top_k.defvjp(_forward, _backward)


def _passes(stays_RxN, is_whole_R):
    """Where the gradient passes: at nonzero entries, and everywhere in unchanged rows."""
    return (magnitude_keys(stays_RxN) > 0) | is_whole_R[:, None]


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

    def in_cache(x_RxN):
        return in_chunks(lambda x: _search_in_lanes(magnitude_keys(x), k), [x_RxN], 4 * x_RxN.shape[1])

    return lax.platform_dependent(x_RxN, cpu=in_cache, default=lambda x: _search_digits(magnitude_keys(x), k))


def _count(keys_RxN, threshold_R):
    return jnp.sum(keys_RxN >= threshold_R[:, None], axis=-1, dtype=jnp.int32)


@partial(jax.jit, static_argnums=(1, 2, 3), inline=True)
def _search_digits(keys, k: int, digit_bits: int = 3, count=_count):
    """The largest t that at least k keys of a row reach, from its highest digit down.

    keys: [R, ...], as `count` takes them. Several counts share one read of the keys. The number of passes
    does not depend on the keys, so an accelerator need not check after each.
    """
    key_bits = 8 * keys.dtype.itemsize - 1

    def next_digit(state):
        step, threshold_R = state
        shift = jnp.maximum(key_bits - digit_bits * (step + 1), 0).astype(keys.dtype)
        digit_R = jnp.zeros_like(threshold_R)
        for value in range(1, 2**digit_bits):
            trial_R = threshold_R + (jnp.asarray(value, keys.dtype) << shift)
            # a trial beyond the largest key wraps to a negative number, which every key would reach
            reached_R = (count(keys, trial_R) >= k) & (trial_R > threshold_R)
            digit_R += reached_R.astype(keys.dtype)
        return step + 1, threshold_R + (digit_R << shift)

    passes = -(-key_bits // digit_bits)
    start = jnp.int32(0), jnp.zeros(len(keys), keys.dtype)
    # not a fori_loop: it would be a scan, which JAX takes apart each time a layer is differentiated
    return lax.while_loop(lambda state: state[0] < passes, next_digit, start)[1]


def _search_in_lanes(keys_RxN, k: int):
    """For CPUs: two bits per pass, until exactly k keys of every row reach its threshold.

    Several devices go on to the last bit, since stopping early would need communication, and bit by bit,
    since they add up the counts of lanes.
    """
    rows, dtype = len(keys_RxN), keys_RxN.dtype
    keys_RxCxN = _in_lanes(keys_RxN)
    if jax.device_count() > 1:
        return _search_digits(keys_RxCxN, k, 1, _count_one_in_lanes)
    digit_bits, key_bits = 2, 8 * dtype.itemsize - 1
    values_V = jnp.arange(1, 2**digit_bits, dtype=dtype)

    def next_digit(state):
        step, threshold_R, reach_R = state
        shift = jnp.maximum(key_bits - digit_bits * (step + 1), 0).astype(dtype)
        trial_RxV = threshold_R[:, None] + (values_V << shift)
        count_RxV = _count_in_lanes(keys_RxCxN, trial_RxV)
        # a trial beyond the largest key wraps to a negative number, which every key would reach
        higher_RxV = (count_RxV >= k) & (trial_RxV > threshold_R[:, None])
        reach_R = jnp.minimum(reach_R, jnp.where(higher_RxV, count_RxV, _MANY).min(axis=1))
        threshold_R += jnp.sum(higher_RxV, axis=1, dtype=dtype) << shift
        return step + 1, threshold_R, reach_R

    def unfinished(state):
        step, _, reach_R = state
        return (digit_bits * step < key_bits) & jnp.any(reach_R != k)

    start = jnp.int32(0), jnp.zeros(rows, dtype), jnp.full(rows, _MANY)
    return lax.while_loop(unfinished, next_digit, start)[1]


def _in_lanes(keys_RxN):
    """[R, N] -> [R, at most 32, lanes], padded with zeros, which no trial counts."""
    rows, width = keys_RxN.shape
    lanes = 16 * -(-width // 512)
    padded = jnp.pad(keys_RxN, [(0, 0), (0, -width % lanes)])
    return padded.reshape(rows, -1, lanes)


def _count_in_lanes(keys_RxCxN, threshold_RxV):
    """How many keys [R, V] reach each of a row's thresholds."""
    # XLA fuses comparing and counting into one loop only for short int16 partial sums over vector lanes
    reached_RxVxCxN = keys_RxCxN[:, None] >= threshold_RxV[:, :, None, None]
    partial_RxVxN = jnp.sum(reached_RxVxCxN, axis=2, dtype=jnp.int16)
    return jnp.sum(partial_RxVxN, axis=-1, dtype=jnp.int32)


def _count_one_in_lanes(keys_RxCxN, threshold_R):
    return _count_in_lanes(keys_RxCxN, threshold_R[:, None])[:, 0]
