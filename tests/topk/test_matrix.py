from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sparse_jax.topk import matrix
from sparse_jax.topk.keys import magnitude_keys
from sparse_jax.topk.matrix import keep_largest
from tests.topk.adversarial import array, largest

pytestmark = pytest.mark.accelerator

on_cpu = jax.jit(keep_largest)
for_accelerators = jax.jit(
    partial(matrix._select, search=partial(matrix._search, count=matrix._count_all, probes=7))
)


def zeros(matrices):
    return jnp.zeros(matrices, jnp.int32)


def keys_of(stacks):
    return [magnitude_keys(jnp.asarray(x)) for x in stacks]


def expected(x, k_L):
    """A stable sort in float64 for each matrix of the stack x."""
    return np.stack([largest(np.abs(m).ravel(), k) for m, k in zip(x, k_L)]).reshape(x.shape)


def check(stacks, k, start, searches=(on_cpu, for_accelerators)):
    for search in searches:
        k_given = np.int32(np.concatenate(k)) if search is for_accelerators else [np.int32(n) for n in k]
        kept, _ = search(keys_of(stacks), k_given, np.int32(start))
        for mask, x, k_L in zip(kept, stacks, k):
            np.testing.assert_array_equal(mask, expected(x, k_L))


@settings(max_examples=80, deadline=None)
@given(
    array((2, 5, 7)),
    array((1, 6)),
    st.tuples(st.integers(0, 35), st.integers(0, 35), st.integers(0, 6)),
    st.lists(st.integers(-(2**31), 2**31 - 1), min_size=3, max_size=3),
)
def test_awkward_stacks_and_absurd_starts(x, y, k, start):
    check([x, y], [k[:2], k[2:]], start)


def test_every_shape_and_every_end_of_k():
    rng = np.random.default_rng(0)
    stacks = [rng.normal(size=s).astype(np.float32) for s in [(1, 1), (2, 7), (1, 1, 5), (3, 33, 20)]]
    sizes = [x[0].size for x in stacks]
    for share in (0, 0.01, 0.5, 0.99, 1):
        k = [[int(np.ceil(share * n))] * len(x) for n, x in zip(sizes, stacks)]
        check(stacks, k, [0] * 7, searches=[on_cpu])


def test_ties_inside_a_large_matrix_go_to_the_lowest_index():
    rounded = np.round(np.random.default_rng(1).normal(size=(2, 64, 48)) * 2).astype(np.float32)
    equal = np.stack([np.full((40, 5), value, np.float32) for value in (0.0, 1.0, -1e-42, np.inf)])
    check([rounded, equal], [[100, 1500], [3, 107, 199, 0]], [0] * 6, searches=[on_cpu])
    kept, _ = on_cpu(keys_of([equal]), [np.int32([3, 107, 199, 0])], zeros(4))
    np.testing.assert_array_equal(np.flatnonzero(kept[0][1]), np.arange(107))


def test_one_k_for_a_whole_stack_is_clipped_to_what_there_is():
    kept, _ = on_cpu(keys_of([np.ones((2, 3, 3)), np.ones((1, 4))]), [100, -1], zeros(3))
    assert kept[0].all() and not kept[1].any()


def test_nan_is_kept_first():
    kept, _ = on_cpu(keys_of([np.float32([[1, np.inf, np.nan, 2]])]), [1], zeros(1))
    np.testing.assert_array_equal(kept[0], [[0, 0, 1, 0]])


def test_no_stack_at_all():
    kept, threshold_M = keep_largest([], [], zeros(0))
    assert kept == [] and threshold_M.size == 0


def test_the_returned_threshold_saves_passes():
    """Starting at the last threshold, hardly changed weights take a handful of passes, not dozens."""
    search = jax.jit(partial(matrix._search, count=matrix._count_pending, probes=1))
    x = jax.random.normal(jax.random.key(0), (1, 128, 128))
    moved = x + 1e-5 * jax.random.normal(jax.random.key(1), x.shape)
    k = jnp.array([4000])
    cold = search(keys_of([x]), k, zeros(1))
    warm = search(keys_of([moved]), k, cold.low)
    assert int(warm.at_low[0]) == 4000
    assert warm.passes <= 10 < 20 < cold.passes
    assert search(keys_of([moved]), k, warm.low).passes == 1


def test_a_new_k_does_not_recompile():
    keys = keys_of([np.random.default_rng(0).normal(size=(2, 10, 11)).astype(np.float32)])
    traces = []

    @jax.jit
    def select(k, start_M):
        traces.append(1)
        return keep_largest(keys, [k], start_M)

    start_M = zeros(2)
    for k in range(0, 111, 10):
        (kept,), start_M = select(jnp.array([k, 110 - k]), start_M)
        np.testing.assert_array_equal(kept.sum(axis=(1, 2)), [k, 110 - k])
    assert len(traces) == 1


@pytest.mark.parametrize("platform", ["tpu", "cuda"])
def test_lowers_for_accelerators(platform):
    traced = on_cpu.trace([jnp.ones((2, 8, 8), jnp.int32)], [3], zeros(2))
    assert "while" in traced.lower(lowering_platforms=(platform,)).as_text()
