import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sparse_jax.sparsity.masks import largest_per_channel, weight_keys
from sparse_jax.sparsity.rules import SparseLeaf
from sparse_jax.topk.keys import magnitude_keys
from sparse_jax.topk.matrix import keep_largest
from tests.topk.adversarial import array, largest

pytestmark = pytest.mark.accelerator


def select(weights, axis, protected, kept):
    weights = jnp.asarray(weights, jnp.float32)[None]
    leaf = SparseLeaf(weights.shape, kept, axis, protected)
    (mask,), _ = keep_largest([weight_keys(weights, leaf)], [kept], jnp.zeros(1, jnp.int32))
    return np.asarray(mask[0], int)


WEIGHTS = [
    [9, -8, 1.0],
    [7, 6, 0.5],
    [5, 4, 0.1],
]


def test_columns_are_protected_inside_the_budget():
    """The weak third column gets its two, 1 and 0.5; then 9, 8, 7 and 6 are left to be kept: six in all."""
    assert select(WEIGHTS, -2, 2, 6).tolist() == [[1, 1, 1], [1, 1, 1], [0, 0, 0]]
    assert select(WEIGHTS, None, 0, 6).tolist() == [[1, 1, 0], [1, 1, 0], [1, 1, 0]]
    assert select(WEIGHTS, -2, 1, 5).tolist() == [[1, 1, 1], [1, 1, 0], [0, 0, 0]]


def test_rows_are_protected_along_the_other_axis():
    weights = [[9, 8, 7], [1, 2, 0.5], [3, 3, 3]]
    assert select(weights, -1, 1, 4).tolist() == [[1, 1, 0], [0, 1, 0], [1, 0, 0]]


def test_a_tie_among_the_protected_goes_to_the_lowest_index():
    assert select([[1, 5], [-1, 5], [1, 5]], -2, 2, 4).tolist() == [[1, 1], [1, 1], [0, 0]]


def test_a_tie_in_the_rest_goes_to_the_lowest_flat_index():
    assert select([[2, 2], [2, 2], [3, 3]], -2, 1, 4).tolist() == [[1, 1], [0, 0], [1, 1]]


def test_zeros_need_no_protection():
    """The first column is all zero: its share of the budget goes to other weights."""
    assert select([[0, 4], [0, 3], [0, 2]], -2, 2, 3).tolist() == [[0, 1], [0, 1], [0, 1]]


@settings(max_examples=60, deadline=None)
@given(array((3, 5, 4)), st.sampled_from([1, 2]), st.integers(1, 3))
def test_exactly_so_many_per_channel(x, axis, count):
    marked = np.asarray(largest_per_channel(magnitude_keys(jnp.asarray(x)), count, axis))
    expected = np.apply_along_axis(lambda channel: largest(np.abs(channel), count), axis, x)
    np.testing.assert_array_equal(marked, expected)


@pytest.mark.parametrize("axis", [-2, -1])
def test_every_channel_gets_its_minimum_and_the_budget_holds(axis):
    """Channels of very different scale, of which plain selection would starve most."""
    rng = np.random.default_rng(0)
    scale = np.exp(3 * rng.normal(size=(24, 16) if axis == -1 else (16, 24))).max(axis=axis, keepdims=True)
    weights = rng.normal(size=(24, 16) if axis == -1 else (16, 24)) * scale
    kept = select(weights, axis, 4, 120)
    assert kept.sum() == 120
    assert kept.sum(axis=axis).min() == 4
    assert select(weights, None, 0, 120).sum(axis=axis).min() == 0
    unprotected = largest(np.abs(weights).ravel(), 120).reshape(weights.shape)
    full = kept.sum(axis=axis, keepdims=True) > 4
    assert not (kept.astype(bool) & full & ~unprotected).any()
