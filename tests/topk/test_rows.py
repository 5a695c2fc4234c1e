from functools import partial
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings

from sparse_jax.inputs import InputError
from sparse_jax.topk import chunks, rows
from sparse_jax.topk.keys import magnitude_keys
from sparse_jax.topk.rows import abs_top_k
from tests.topk.adversarial import array

pytestmark = pytest.mark.accelerator

on_several_devices = jax.jit(abs_top_k, static_argnums=1)


@partial(jax.jit, static_argnums=1)
def alone(x, k):
    """As on a machine with one device, which takes two bits a pass and stops early."""
    with mock.patch.object(jax, "device_count", lambda: 1):
        return abs_top_k(x, k)


def top_k(x, k):
    kept = alone(x, k)
    np.testing.assert_array_equal(np.float32(kept), np.float32(on_several_devices(x, k)))
    return kept


def reference(x, k):
    """Every entry that reaches the k-th largest magnitude of its row, by sorting in float64."""
    magnitude = np.abs(np.asarray(x, np.float64))
    cut = np.sort(magnitude, axis=-1)[..., -k, None]
    return np.where(magnitude >= cut, np.asarray(x), 0)


@settings(max_examples=60, deadline=None)
@given(array((4, 9)))
def test_awkward_rows(x):
    for k in (1, 2, 5, 8):
        np.testing.assert_array_equal(top_k(x, k), reference(x, k))


@pytest.mark.parametrize(
    "width, dtype", [(2, "f4"), (17, "f4"), (128, "bfloat16"), (515, "f4"), (1100, "bfloat16")]
)
def test_every_width(width, dtype):
    x = jax.random.normal(jax.random.key(0), (3, 2, width)).astype(dtype)
    for k in {max(1, width // 4), width - 1}:
        kept = top_k(x, k)
        assert kept.dtype == dtype
        np.testing.assert_array_equal(np.float32(kept), np.float32(reference(x.astype(jnp.float32), k)))


def test_ties_at_the_cut_all_stay():
    x = jnp.float32([[3, -1, 1, 0, 1, 0.5]])
    np.testing.assert_array_equal(top_k(x, 2), [[3, -1, 1, 0, 1, 0]])
    np.testing.assert_array_equal(top_k(x, 3), [[3, -1, 1, 0, 1, 0]])


def test_nan_stays_visible():
    kept = top_k(jnp.float32([[1, jnp.nan, 3, 2]]), 2)
    assert jnp.isnan(kept[0, 1])
    np.testing.assert_array_equal(kept[0, [0, 2, 3]], [0, 3, 0])


def test_dropped_entries_are_positive_zeros():
    dropped = top_k(-jnp.arange(1.0, 5.0)[None], 1)[0, :3]
    assert not np.signbit(dropped).any()


def test_wide_k_is_the_identity_and_small_k_is_refused():
    x = jnp.float32([[1, -2, 0]])
    assert abs_top_k(x, 3) is x and abs_top_k(x, 7) is x
    with pytest.raises(InputError, match="k: 0"):
        abs_top_k(x, 0)


@pytest.mark.parametrize("devices", [1, 8])
@pytest.mark.parametrize("search", [rows._search_digits, rows._search_in_lanes])
def test_searches_find_the_same_entries(monkeypatch, search, devices):
    """As accelerators and CPUs search, one or several; at the NaN of all bits a trial could wrap."""
    monkeypatch.setattr(jax, "device_count", lambda: devices)
    every_bit = np.array(0x7FFFFFFF, np.int32).view(np.float32)
    x = jax.random.normal(jax.random.key(0), (7, 40)).at[4].set(0)
    x = x.at[5].set(every_bit).at[6, :2].set(every_bit)
    for dtype in (jnp.float32, jnp.bfloat16):
        keys = magnitude_keys(x.astype(dtype))
        for k in (1, 10, 39):
            cut = np.sort(np.asarray(keys), axis=-1)[:, -k]
            found = np.asarray(jax.jit(search, static_argnums=1)(keys, k))
            np.testing.assert_array_equal(keys >= found[:, None], keys >= cut[:, None])
            assert np.all(found <= cut)
            if search is rows._search_digits:
                np.testing.assert_array_equal(found, cut)


@pytest.mark.parametrize("reused", (True, False))
@pytest.mark.parametrize("dtype", ["f4", "bfloat16"])
def test_rows_in_turns_keep_the_same(monkeypatch, dtype, reused):
    """As on a machine with one device; rows with ties, and one of zeros, in some of the parts."""
    monkeypatch.setattr(jax, "device_count", lambda: 1)
    monkeypatch.setattr(chunks, "CACHE_BYTES", 4 * 40 * 4)
    x = jax.random.normal(jax.random.key(0), (48, 40)).at[7].set(0).at[9, :30].set(-2).astype(dtype)
    expected = np.float32(reference(x.astype(jnp.float32), 10))
    found, gradients = jax.jit(lambda x: jax.vjp(lambda x: abs_top_k(x, 10, reused), x))(x)
    np.testing.assert_array_equal(np.float32(found), expected)
    passes = (expected != 0) | (expected == 0).all(axis=-1, keepdims=True)
    np.testing.assert_array_equal(gradients(jnp.ones_like(x))[0], passes)


@pytest.mark.parametrize("reused", (True, False))
def test_gradient_is_the_mask_times_the_cotangent(reused):
    x = jax.random.normal(jax.random.key(0), (2, 3, 20))
    g = jax.random.normal(jax.random.key(1), x.shape)
    (gradient,) = jax.vjp(lambda x: abs_top_k(x, 5, reused), x)[1](g)
    np.testing.assert_array_equal(gradient, np.where(reference(x, 5) != 0, g, 0))


@pytest.mark.parametrize("reused", (True, False))
def test_slopes_need_what_stays_or_a_byte_an_entry(reused):
    """A mask beside what a product keeps anyway would be a byte an entry more, in every layer."""
    x = jax.random.normal(jax.random.key(0), (6, 32))
    stays, gradients = jax.vjp(lambda x: abs_top_k(x, 8, reused), x)
    (kept,) = [leaf for leaf in jax.tree.leaves(gradients) if leaf.size > len(x)]
    np.testing.assert_array_equal(kept, stays if reused else stays != 0)
    assert kept.dtype == (x.dtype if reused else bool)


@pytest.mark.parametrize("reused", (True, False))
def test_rows_with_too_few_nonzeros_pass_every_slope(reused):
    x = jnp.float32([[0, 3, 0, -2], [1e-45, 3, 0, -2], [1, 3, 0, -2]])
    gradient = jax.grad(lambda x: jnp.sum(abs_top_k(x, 3, reused) * jnp.arange(1, 5)))(x)
    np.testing.assert_array_equal(gradient, [[1, 2, 3, 4], [1, 2, 0, 4], [1, 2, 0, 4]])


def test_gradient_against_finite_differences():
    """The cut is at least 1e-2 wide here, so that a small step changes no selection."""
    x = np.linspace(-1, 1, 24).reshape(2, 12) + np.linspace(0, 0.03, 12)

    def loss(x):
        return jnp.sum(jnp.sin(abs_top_k(x, 4)) * jnp.arange(12.0))

    moves = 2e-3 * np.eye(x.size).reshape(-1, *x.shape)
    losses = jax.jit(jax.vmap(loss))(np.float32(np.concatenate([x + moves, x - moves])))
    gradients = (losses[: x.size] - losses[x.size :]) / 4e-3
    np.testing.assert_allclose(gradients, jax.grad(loss)(jnp.float32(x)).ravel(), atol=5e-3)


def test_under_vmap_and_scan():
    x = jax.random.normal(jax.random.key(0), (3, 4, 20))
    expected = reference(x, 5)
    np.testing.assert_array_equal(jax.vmap(partial(abs_top_k, k=5))(x), expected)
    _, scanned = jax.lax.scan(lambda carry, row: (carry, abs_top_k(row, 5)), 0, x)
    np.testing.assert_array_equal(scanned, expected)


def test_lowers_for_tpu_and_gpu():
    for platform in ("tpu", "cuda"):
        traced = jax.jit(lambda x: abs_top_k(x, 3)).trace(jnp.ones((4, 9)))  # no width for a kernel
        assert "while" in traced.lower(lowering_platforms=(platform,)).as_text()
