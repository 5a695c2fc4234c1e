"""Gates on the token embedding, against models whose embedding holds what the gates leave of it."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sparse_jax.model import forward as model
from sparse_jax.model.hooks import Hooks, Patch
from tests.model.conftest import scaled_params

forward = jax.jit(model.forward, static_argnums=0)
AT = jnp.array([[0, 9], [9, 3], [4, 2]])


@pytest.fixture(scope="module", params=["none", "added", "concatenated"])
def made(request, tiny):
    """A model with each kind of positions, without AbsTopK: every function here is smooth."""
    config, _, tokens = tiny
    d_position = 4 * (request.param == "concatenated")
    config = dataclasses.replace(
        config, positions=request.param, d_position=d_position, activation_fraction=None
    )
    return config, scaled_params(config, 5), tokens


def with_channels(config, params, change):
    """The parameters with `change` made to the embedding, and what it adds to the stream set to 0 there."""
    found = {**params, "embed": {"kernel": change(params["embed"]["kernel"], 1)}}
    if config.positions == "added":
        found["position"] = {"kernel": change(params["position"]["kernel"], 0)}
    return found


def test_all_closed_at_zero_is_a_model_whose_embedding_is_zero(made):
    config, params, tokens = made
    bare = with_channels(config, params, lambda kernel, _: jnp.zeros_like(kernel))
    expected, found = (
        forward(config, weights, tokens, hooks)[0]
        for weights, hooks in ((bare, Hooks()), (params, Hooks({"embed": jnp.zeros(16)})))
    )
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert np.abs(found - forward(config, params, tokens)[0]).max() > 0.1


def test_a_closed_channel_is_a_column_that_holds_its_fill_for_every_token(made):
    config, params, tokens = made
    closed = jnp.array([2, 11])
    fill = jax.random.normal(jax.random.key(6), (16,))

    def change(kernel, once):
        return kernel.at[:, closed].set(once * fill[closed])

    hooks = Hooks({"embed": jnp.ones(16).at[closed].set(0)}, {"embed": fill})
    expected = forward(config, with_channels(config, params, change), tokens)[0]
    np.testing.assert_allclose(forward(config, params, tokens, hooks)[0], expected, atol=1e-4)
    # with few positions asked for, the embedding of all others still counts
    asked = forward(config, params, tokens, hooks, AT)[0]
    np.testing.assert_allclose(asked, expected[jnp.arange(3)[:, None], AT], atol=1e-4)
    assert np.abs(expected - forward(config, params, tokens)[0]).max() > 0.1


def test_what_is_captured_is_the_embedding_with_the_positions_that_are_added(made):
    config, params, tokens = made
    expected = np.asarray(params["embed"]["kernel"])[np.asarray(tokens)]
    if config.positions == "added":
        expected = expected + np.asarray(params["position"]["kernel"])[: tokens.shape[1]]
    for at in (None, AT):
        captured = forward(config, params, tokens, Hooks(capture=("embed", "resid_in")), at)[1]
        np.testing.assert_allclose(captured["embed"], expected, atol=1e-6)
        np.testing.assert_array_equal(captured["embed"], captured["resid_in"][0])


def test_a_patch_at_one_token_is_another_token_there(made):
    config, params, tokens = made
    other = tokens.at[:, 3].set((tokens[:, 3] + 1) % config.vocab_size)
    value = forward(config, params, other, Hooks(capture=("embed",)))[1]["embed"]
    patch = Patch((jnp.arange(tokens.shape[1]) == 3)[:, None], value)
    found = forward(config, params, tokens, Hooks(patches={"embed": patch}))[0]
    expected = forward(config, params, other)[0]
    # the bigram table reads the tokens themselves
    bigram = params["bigram"]["kernel"]
    np.testing.assert_allclose(found - bigram[tokens], expected - bigram[other], atol=1e-4)


def test_the_slope_of_a_gate_is_that_of_finite_differences(made):
    config, params, tokens = made
    # as large as the embedding itself, so that a step is small beside the stream
    fill, step = 0.2 * jax.random.normal(jax.random.key(7), (16,)), 3e-3

    @jax.jit
    def loss(gate, params):
        return forward(config, params, tokens, Hooks({"embed": gate}, {"embed": fill}))[0].var()

    gate = np.ones(16, np.float32)
    gradients = jax.grad(loss)(gate, params)
    for channel in (0, 7, 15):
        move = np.zeros(16, np.float32)
        move[channel] = step
        gradient = (loss(gate + move, params) - loss(gate - move, params)) / (2 * step)
        np.testing.assert_allclose(gradients[channel], gradient, atol=2e-3, rtol=2e-2)
    assert np.abs(gradients).max() > 0.05
