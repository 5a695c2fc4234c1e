"""Exact selection of the k largest keys of many matrices at once, by counting how many reach a threshold."""

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

_ABOVE_ALL = jnp.iinfo(jnp.int32).max


class Selection(NamedTuple):
    """kept: bool arrays shaped like the keys. threshold_M: int32 [M], a start for the next search."""

    kept: list[jax.Array]
    threshold_M: jax.Array


def keep_largest(keys: Sequence[jax.Array], k: Sequence[jax.Array | int], start_M: jax.Array) -> Selection:
    """Keeps exactly min(k, size) entries of each matrix: those of the largest keys.

    keys: stacks of matrices, int32 [L, ...] each, in [0, 2**31 - 2] as `magnitude_keys` gives them; M is the
    number of matrices in all stacks. k: for each stack an int or [L], may be traced. start_M: any guess of
    the thresholds, stack after stack (those of the last search save passes; 0 works too).
    Ties: among keys equal to the k-th largest, those of the lowest flat index are kept.

    A pass only compares and counts: for sharded matrices it needs one all-reduce of M numbers, and no key
    moves between devices. Source: METHOD section 3.
    """
    keys = list(keys)
    if not keys:
        return Selection([], start_M)
    k_M = jnp.concatenate([jnp.clip(_broadcast(n, x), 0, _size(x)) for n, x in zip(k, keys, strict=True)])
    # On a CPU every further count costs another pass; elsewhere all counts share one read of the keys.
    return lax.platform_dependent(
        keys,
        k_M,
        start_M,
        cpu=partial(_select, search=partial(_search, count=_count_pending, probes=1)),
        default=partial(_select, search=partial(_search, count=_count_all, probes=7)),
    )


def _select(keys, k_M, start_M, search: Callable) -> Selection:
    found = search(keys, k_M, start_M)
    tied_M = found.at_low != k_M

    def without_ties():
        return [x >= _beside(low, x) for x, low in zip(keys, _split(found.low, keys))]

    def with_ties():
        # The same search, now over the positions of tied keys, takes as many of them as are missing.
        at_cut = zip(keys, _split(jnp.where(tied_M, found.low, -1), keys))
        ranks = [jnp.where(x == _beside(cut, x), _descending_positions(x), 0) for x, cut in at_cut]
        missing_M = jnp.where(tied_M, k_M - found.at_high, 0)
        last = search(ranks, missing_M, jnp.ones_like(k_M))
        above = _split(jnp.where(tied_M, found.high, found.low), keys)
        return [
            (x >= _beside(cut, x)) | (rank >= _beside(lowest, x))
            for x, cut, rank, lowest in zip(keys, above, ranks, _split(last.low, keys))
        ]

    return Selection(lax.cond(jnp.any(tied_M), with_ties, without_ties), found.low)


class _Bracket(NamedTuple):
    """At least k keys reach low, fewer than k reach high; with both counts, [M], and the passes so far."""

    low: jax.Array
    high: jax.Array
    at_low: jax.Array
    at_high: jax.Array
    passes: jax.Array


def _search(keys, k_M, start_M, count: Callable, probes: int) -> _Bracket:
    """Narrows brackets until exactly k keys reach the low end, or low and high are neighbors (a tie)."""
    sizes_M = jnp.concatenate([jnp.full(len(x), _size(x), jnp.int32) for x in keys])
    widest = _Bracket(
        low=jnp.where(k_M == 0, _ABOVE_ALL, 0),
        high=jnp.full_like(k_M, _ABOVE_ALL),
        at_low=jnp.where(k_M == 0, 0, sizes_M),
        at_high=jnp.zeros_like(k_M),
        passes=jnp.int32(0),
    )

    def pending(bracket):
        return (bracket.at_low != k_M) & (bracket.high - bracket.low > 1)

    def narrower(bracket):
        low, high, at_low, at_high, passes = bracket
        pending_M = pending(bracket)
        trials = jnp.where(passes == 0, start_M, _trials(bracket, k_M, probes))
        for trial_M in jnp.clip(trials, low + 1, jnp.maximum(high - 1, low + 1)):
            reached_M = count(keys, trial_M, pending_M)
            raise_M = pending_M & (reached_M >= k_M) & (trial_M > low)
            lower_M = pending_M & (reached_M < k_M) & (trial_M < high)
            low, at_low = jnp.where(raise_M, trial_M, low), jnp.where(raise_M, reached_M, at_low)
            high, at_high = jnp.where(lower_M, trial_M, high), jnp.where(lower_M, reached_M, at_high)
        return _Bracket(low, high, at_low, at_high, passes + 1)

    return lax.while_loop(lambda bracket: jnp.any(pending(bracket)), narrower, widest)


def _trials(bracket: _Bracket, k_M, probes: int):
    """Thresholds to count next, [probes, M]: away from the first guess in growing steps until a bracket is
    found, then evenly inside it; in every other pass the middle one is interpolated from the counts."""
    low, high, at_low, at_high, passes = bracket
    rung = jnp.arange(probes)[:, None]
    leap = 1 << jnp.minimum(8 + 4 * ((passes - 1) * probes + rung), 30)
    upward = low + jnp.minimum(leap, _ABOVE_ALL - 1 - low)
    downward = high - jnp.minimum(leap, high - 1)

    width = high - low
    share = (at_low - k_M + 0.5) / (at_low - at_high + 1)
    interpolated = low + (share * width).astype(jnp.int32)
    inside = low + width // (probes + 1) * (rung + 1)
    inside = jnp.where((rung == probes // 2) & (passes % 2 == 0), interpolated, inside)
    return jnp.where(high == _ABOVE_ALL, upward, jnp.where(low == 0, downward, inside))


def _count_all(keys, threshold_M, pending_M):
    """How many keys of each matrix reach its threshold, [M]."""
    return jnp.concatenate([_count(x, threshold) for x, threshold in zip(keys, _split(threshold_M, keys))])


def _count_pending(keys, threshold_M, pending_M):
    """`_count_all` for a CPU: skips finished stacks, and sums in a form that XLA fuses there."""

    def skip(_, threshold):
        return jnp.zeros_like(threshold)

    return jnp.concatenate(
        [
            lax.cond(jnp.any(pending), _count_in_lanes, skip, x, threshold)
            for x, threshold, pending in zip(keys, _split(threshold_M, keys), _split(pending_M, keys))
        ]
    )


def _count(x, threshold_L):
    return jnp.sum(x >= _beside(threshold_L, x), axis=tuple(range(1, x.ndim)), dtype=jnp.int32)


def _count_in_lanes(x, threshold_L):
    # XLA fuses comparing and counting into one loop only for short int16 partial sums over vector lanes.
    if x.ndim == 2:
        return _count(x, threshold_L)
    padded = jnp.pad(x, [(0, 0), (0, -x.shape[1] % 32), (0, 0)], constant_values=-1)
    chunks = padded.reshape(len(x), -1, 32, x.shape[-1])
    partial_sums = jnp.sum(chunks >= _beside(threshold_L, chunks), axis=2, dtype=jnp.int16)
    return jnp.sum(partial_sums, axis=(1, 2), dtype=jnp.int32)


def _descending_positions(x):
    """Size of a matrix minus the flat index: its first entry ranks highest."""
    return jnp.broadcast_to(_size(x) - jnp.arange(_size(x)).reshape(x.shape[1:]), x.shape)


def _split(values_M, keys):
    """One piece of values for every stack."""
    return jnp.split(values_M, np.cumsum([len(x) for x in keys])[:-1])


def _broadcast(n, x):
    return jnp.broadcast_to(jnp.asarray(n, jnp.int32), len(x))


def _beside(value_L, x):
    return value_L.reshape(-1, *[1] * (x.ndim - 1))


def _size(x) -> int:
    """Entries of one matrix of the stack."""
    return math.prod(x.shape[1:])
