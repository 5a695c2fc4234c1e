"""Invariants of the forward function and its parameters."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sparse_jax.inputs import InputError
from sparse_jax.model import forward as model
from sparse_jax.model import sites
from sparse_jax.model.forward import initialize, num_params, summary
from sparse_jax.model.hooks import Hooks
from sparse_jax.trees import named_leaves

pytestmark = pytest.mark.accelerator

forward = jax.jit(model.forward, static_argnums=0)


def test_no_logit_depends_on_a_later_token(tiny):
    config, params, tokens = tiny
    changed = tokens.at[:, 6].set((tokens[:, 6] + 1) % config.vocab_size)
    before, after = forward(config, params, tokens)[0], forward(config, params, changed)[0]
    np.testing.assert_allclose(before[:, :6], after[:, :6], atol=1e-5)
    assert np.abs(before[:, 6:] - after[:, 6:]).max() > 1e-3


def test_only_the_asked_positions_are_unembedded(tiny):
    config, params, tokens = tiny
    at = jnp.array([0, 9, 4])
    whole = forward(config, params, tokens)[0]
    np.testing.assert_allclose(
        forward(config, params, tokens, at_B=at)[0], whole[jnp.arange(3), at], atol=1e-5
    )


def test_abs_top_k_acts_at_every_site_that_is_listed(tiny):
    config, params, tokens = tiny
    captured = forward(config, params, tokens, Hooks(capture=sites.NODE_SITES))[1]
    for site in sites.LAYER_SITES:
        counts = np.count_nonzero(captured[site], axis=-1)
        assert counts.max() <= config.kept(site), site
    assert np.count_nonzero(captured["final_resid"], axis=-1).min() == config.d_model


def test_the_bigram_row_of_the_current_token_is_added(tiny):
    config, params, tokens = tiny
    plain = {**params, "bigram": {"kernel": jnp.zeros_like(params["bigram"]["kernel"])}}
    added = forward(config, params, tokens)[0] - forward(config, plain, tokens)[0]
    np.testing.assert_allclose(added, params["bigram"]["kernel"][tokens], atol=1e-5)


@functools.partial(jax.jit, static_argnums=0)
def gradients(config, params, tokens):
    return jax.grad(lambda params: forward(config, params, tokens)[0].var())(params)


@pytest.mark.parametrize("changes", [{"unroll": True}, {"remat": True}])
def test_how_layers_are_looped_over_changes_no_number(tiny, changes):
    config, params, tokens = tiny
    other = dataclasses.replace(config, **changes)

    for a, b in zip(*(jax.tree.leaves(gradients(one, params, tokens)) for one in (config, other))):
        np.testing.assert_allclose(a, b, atol=1e-5)


def test_a_single_layer_is_not_looped_over(tiny):
    config, _, tokens = tiny
    loops = {}
    for n_layers in (1, 2):
        one = dataclasses.replace(config, n_layers=n_layers, topk_sites=())
        traced = jax.make_jaxpr(functools.partial(model.forward, one))(model.param_shapes(one), tokens)
        loops[n_layers] = str(traced).count("scan[")
    assert loops[2] == loops[1] + 1


def test_bfloat16_compute_keeps_parameters_and_logits_in_float32(tiny):
    config, params, tokens = tiny
    # without AbsTopK, whose choices rounding may flip
    dense = dataclasses.replace(config, activation_fraction=None, bigram="none")
    half = dataclasses.replace(dense, compute_dtype="bfloat16")
    logits = forward(half, params, tokens)[0]
    exact = forward(dense, params, tokens)[0]
    assert logits.dtype == jnp.float32
    # not merely stored as float32: no rounding to bfloat16 on the way
    assert np.mean(logits == logits.astype(jnp.bfloat16)) < 0.1
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(initialize(half, jax.random.key(0))))
    assert 0 < np.abs(logits - exact).max() < 0.1 * np.abs(exact).max()


def test_initial_scales(tiny):
    config = dataclasses.replace(tiny[0], d_model=64, d_mlp=256, vocab_size=200, n_layers=8)
    leaves = named_leaves(initialize(config, jax.random.key(0)))
    assert np.std(leaves["layers/mlp/up/kernel"]) == pytest.approx(0.02, rel=0.05)
    assert np.std(leaves["layers/mlp/down/kernel"]) == pytest.approx(0.02 / 4, rel=0.05)
    assert np.std(leaves["layers/attn/out/kernel"]) == pytest.approx(0.02 / 4, rel=0.05)
    bigram = leaves["bigram/kernel"]
    assert bigram.min() >= 0 and bigram.max() < 0.02 and np.mean(bigram) == pytest.approx(0.01, rel=0.05)
    assert not np.any(leaves["layers/attn/sink"]) and not np.any(leaves["layers/mlp/up/bias"])
    # layers of a stack are drawn apart
    assert not np.array_equal(leaves["layers/attn/q/kernel"][0], leaves["layers/attn/q/kernel"][1])


def test_parameters_are_counted_and_summarized(tiny):
    config, params, _ = tiny
    d, f, v = 16, 64, 24
    per_layer = 2 * d + 4 * (d * d + d) + 4 + (d * f + f) + (f * d + d)
    expected = 2 * per_layer + v * d + d + d * v + v * v + v
    assert num_params(params) == expected
    lines = summary(params).splitlines()
    assert len(lines) == len(named_leaves(params)) + 1
    assert f"{expected:,}" in lines[-1]
    up = next(line for line in lines if line.startswith("layers/mlp/up/kernel"))
    assert up.split()[1:] == ["2", "x", "16", "x", "64", "2,048", "100.00", "%"]


def test_ids_outside_the_vocabulary_are_read_as_the_docstring_says(tiny):
    config, params, _ = tiny
    given = forward(config, params, jnp.array([[5, 24, 2000, -1, -24, -25, -2000]]))[0]
    read = forward(config, params, jnp.array([[5, 23, 23, 23, 0, 0, 0]]))[0]
    np.testing.assert_array_equal(given, read)


def test_too_many_tokens_are_refused(tiny):
    config, params, _ = tiny
    with pytest.raises(InputError, match="tokens: 17 per sequence; valid: at most context 16"):
        forward(config, params, jnp.zeros((1, 17), jnp.int32))
