"""A bigram table as a product of two matrices: the same numbers as the whole table, in less memory."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sparse_jax.model import forward as model
from sparse_jax.model.config import ModelConfig
from sparse_jax.model.forward import initialize, num_params, param_shapes
from sparse_jax.model.generate import generate
from sparse_jax.trees import map_named, named_leaves

forward = jax.jit(model.forward, static_argnums=0)


def low_rank(tiny, rank):
    """The tiny model with random factors large enough to matter."""
    config = dataclasses.replace(tiny[0], bigram_table_rank=rank)
    rng = np.random.default_rng(7)
    current, following = (rng.normal(size=shape).astype(np.float32) for shape in ((24, rank), (rank, 24)))
    factors = {"current": {"kernel": current}, "next": {"kernel": following}}
    return config, {**tiny[1], "bigram": factors}


@pytest.mark.parametrize("rank, last", [(24, False), (3, True)])
def test_logits_are_those_of_the_whole_table(tiny, rank, last):
    whole, params, tokens = tiny
    config, factored = low_rank(tiny, rank)
    factors = named_leaves(factored["bigram"])
    table = np.float64(factors["current/kernel"]) @ np.float64(factors["next/kernel"])
    at_B = np.array([9, 0, 4]) if last else None
    wanted = forward(whole, {**params, "bigram": {"kernel": jnp.float32(table)}}, tokens, at_B=at_B)[0]
    found = forward(config, factored, tokens, at_B=at_B)[0]
    assert found.dtype == jnp.float32
    np.testing.assert_allclose(found, wanted, atol=2e-5)
    without = forward(dataclasses.replace(whole, bigram="none"), params, tokens, at_B=at_B)[0]
    assert np.abs(found - without).max() > 1


def test_any_table_is_a_product_of_full_rank(tiny):
    whole, params, tokens = tiny
    left, values, right = np.linalg.svd(np.float64(params["bigram"]["kernel"]))
    factors = {"current": {"kernel": np.float32(left * values)}, "next": {"kernel": np.float32(right)}}
    config = dataclasses.replace(whole, bigram_table_rank=24)
    found = forward(config, {**params, "bigram": factors}, tokens)[0]
    np.testing.assert_allclose(found, forward(whole, params, tokens)[0], atol=1e-5)


def test_gradients_are_those_of_finite_differences(tiny):
    config, params = low_rank(tiny, 3)
    tokens = tiny[2]

    @jax.jit
    @jax.value_and_grad
    def run(bigram, params):
        log_p = jax.nn.log_softmax(forward(config, {**params, "bigram": bigram}, tokens[:, :-1])[0])
        return -jnp.take_along_axis(log_p, tokens[:, 1:, None], axis=-1).mean()

    gradient = run(params["bigram"], params)[1]
    for seed, name in enumerate(("current", "next", "current", "next")):
        factor = params["bigram"][name]["kernel"]
        direction = np.float32(np.random.default_rng(seed).normal(size=factor.shape))
        ends = [
            float(run({**params["bigram"], name: {"kernel": factor + step * direction}}, params)[0])
            for step in (1e-2, -1e-2)
        ]
        found = float(jnp.vdot(gradient[name]["kernel"], direction))
        assert (ends[0] - ends[1]) / 2e-2 == pytest.approx(found, rel=1e-2) and abs(found) > 1e-2


def test_the_cache_changes_no_token(tiny):
    config, params = low_rank(tiny, 3)
    texts = [
        generate(config, params, tiny[2][:, :4], 6, jax.random.key(5), cached=cached)
        for cached in (True, False)
    ]
    np.testing.assert_array_equal(*texts)


def test_shapes_counts_and_what_training_leaves_alone():
    config = ModelConfig(vocab_size=50257, bigram_table_rank=64)
    shapes = {name: leaf.shape for name, leaf in named_leaves(param_shapes(config)).items()}
    assert {name: shape for name, shape in shapes.items() if name.startswith("bigram")} == {
        "bigram/current/kernel": (50257, 64),
        "bigram/next/kernel": (64, 50257),
    }
    none = dataclasses.replace(config, bigram="none", bigram_table_rank=None)
    assert num_params(param_shapes(config)) - num_params(param_shapes(none)) == 2 * 50257 * 64
    fixed = dataclasses.replace(config, bigram="fixed")
    assert fixed.frozen == ("logit_bias", "bigram/.*") and config.frozen == ("logit_bias",)


def test_the_product_is_made_in_the_type_of_the_unembedding(tiny):
    config, params = low_rank(tiny, 3)
    bare = dataclasses.replace(config, activation_fraction=None, compute_dtype="bfloat16")
    # nothing but the table speaks
    params = map_named(lambda name, x: x if name.startswith("bigram") else 0 * x, params)
    found = forward(bare, params, tiny[2])[0]
    factors = named_leaves(params["bigram"])
    current, following = (np.float64(jnp.bfloat16(factors[f"{name}/kernel"])) for name in ("current", "next"))
    np.testing.assert_allclose(found, (current @ following)[tiny[2]], atol=1e-5)


def test_what_a_model_is_called_does_not_change_with_a_field_that_it_does_not_use():
    config = ModelConfig(vocab_size=24)
    assert "bigram_table_rank" not in repr(config) and "bigram_table_rank" not in config.told
    low = dataclasses.replace(config, bigram_table_rank=3)
    assert "bigram='learned', bigram_table_rank=3, " in repr(low)
    assert low.told == {**config.told, "bigram_table_rank": 3}
    assert repr(config).replace("'learned', ", "'learned', bigram_table_rank=3, ") == repr(low)


def test_initial_factors_are_drawn_apart():
    leaves = named_leaves(initialize(ModelConfig(**SMALL, bigram_table_rank=40), jax.random.key(0)))
    current, following = leaves["bigram/current/kernel"], leaves["bigram/next/kernel"]
    assert np.abs(np.corrcoef(np.ravel(current), np.ravel(following.T))[0, 1]) < 0.05


SMALL = {"vocab_size": 200, "context": 8, "n_layers": 1, "d_model": 16, "d_head": 4}
