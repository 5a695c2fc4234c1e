"""Sampling: the cache changes nothing, and temperature and top-k mean what they say."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sparse_jax.inputs import InputError
from sparse_jax.model import forward as model
from sparse_jax.model import generate as sampling
from sparse_jax.model import sites
from sparse_jax.model.generate import TEMPERATURES, generate, sample
from sparse_jax.model.hooks import Hooks, Patch
from tests.model.conftest import scaled_params

forward = jax.jit(model.forward, static_argnums=0)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"positions": "added", "n_layers": 1},
        pytest.param({"positions": "concatenated", "d_position": 4}, marks=pytest.mark.slow),
    ],
)
def test_the_cache_changes_no_token(tiny, changes):
    config = dataclasses.replace(tiny[0], **changes)
    params = scaled_params(config, 2)
    prompt, key = tiny[2][:, :4], jax.random.key(5)
    cached = generate(config, params, prompt, 8, key)
    plain = generate(config, params, prompt, 8, key, cached=False)
    np.testing.assert_array_equal(cached, plain)
    assert cached.shape == (3, 12)
    np.testing.assert_array_equal(cached[:, :4], prompt)


def test_temperature_zero_takes_the_most_likely_token(tiny):
    config, params, tokens = tiny
    text = generate(config, params, tokens[:, :4], 8, jax.random.key(0), temperature=0)
    logits = forward(config, params, text[:, :-1])[0]
    np.testing.assert_array_equal(np.argmax(logits[:, 3:], axis=-1), text[:, 4:])


def test_samples_follow_the_softmax_of_the_top_k():
    logits = jnp.tile(jnp.log(jnp.array([0.5, 0.3, 0.15, 0.05])), (20_000, 1))
    drawn = np.bincount(sample(jax.random.key(0), logits, 1.0, None), minlength=4) / 20_000
    np.testing.assert_allclose(drawn, [0.5, 0.3, 0.15, 0.05], atol=0.015)
    drawn = np.bincount(sample(jax.random.key(1), logits, 0.5, 2), minlength=4) / 20_000
    np.testing.assert_allclose(drawn, [25 / 34, 9 / 34, 0, 0], atol=0.015)


@pytest.mark.parametrize("top_k", [None, 2])
def test_samples_at_both_ends_of_the_temperatures(top_k):
    logits = jnp.tile(jnp.array([-1e8, 2.0, 3.0, -4.0]), (1000, 1))
    cold, hot = (sample(jax.random.key(0), logits, one, top_k) for one in TEMPERATURES)
    assert set(np.unique(cold)) == {2} and set(np.unique(hot)) == (set(range(4)) if top_k is None else {1, 2})


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"tokens": 7}, "tokens: 7 is not valid; valid: 0 to 6"),
        ({"temperature": -1.0}, "temperature: -1.0"),
        ({"temperature": 1e-40}, "temperature: 1e-40 is not valid; valid: 0, or 1e-30 to 1e"),
        ({"temperature": float("inf")}, "temperature: inf"),
        ({"temperature": float("nan")}, "temperature: nan"),
        ({"prompt_BxT": np.array([[3, 24]])}, "prompt: 'ids 3 to 24' is not valid; valid: token ids 0 to 23"),
        ({"top_k": 2.5}, "top_k: 2.5 is not valid; valid: a whole number"),
        ({"top_k": 0}, "top_k: 0 is not valid; valid: None, or 1 to 24"),
    ],
)
def test_settings_out_of_range_are_refused(tiny, settings, said):
    config, params, tokens = tiny
    arguments = {"prompt_BxT": tokens, "tokens": 2, "key": jax.random.key(0), **settings}
    with pytest.raises(InputError, match=said.split(";")[0]):
        generate(config, params, **arguments)


def test_a_temperature_may_be_a_scalar_of_jax(tiny):
    config, params, tokens = tiny
    one, other = (generate(config, params, tokens, 2, jax.random.key(0), t) for t in (0.5, jnp.float32(0.5)))
    np.testing.assert_array_equal(one, other)


def steady_hooks(config):
    """Of every kind that sampling takes, all of which change what is written."""
    shapes = sites.node_shapes(config)
    gates = {"mlp_neuron": jnp.ones(shapes["mlp_neuron"]).at[:, ::2].set(0)}
    ablated = {"mlp_neuron": jnp.full(shapes["mlp_neuron"], 0.3)}
    additions = {"resid_mid": 2 * jax.random.normal(jax.random.key(3), (16,))}
    patches = {"q": Patch(jnp.arange(16) == 2, jnp.float32(1.5))}
    return Hooks(gates, ablated, patches, additions=additions)


@pytest.mark.parametrize("kind", ["gates", "additions", "patches"])
def test_hooks_act_while_sampling_with_the_cache_and_without(tiny, kind):
    config, params, tokens = tiny
    hooks = steady_hooks(config)
    dropped = {"gates": {}, "ablated": {}, "additions": {}, "patches": {}}
    for name in ("gates", "ablated") if kind == "gates" else (kind,):
        dropped.pop(name)
    hooks = hooks.replace(**dropped)
    prompt, key = tokens[:, :4], jax.random.key(5)
    cached = generate(config, params, prompt, 8, key, hooks=hooks, temperature=0)
    plain = generate(config, params, prompt, 8, key, hooks=hooks, temperature=0, cached=False)
    np.testing.assert_array_equal(cached, plain)
    # the most likely tokens of the forward function under the same hooks
    logits = forward(config, params, cached[:, :-1], hooks)[0]
    np.testing.assert_array_equal(np.argmax(logits[:, 3:], axis=-1), cached[:, 4:])


@pytest.mark.parametrize(
    "hooks, said",
    [
        (Hooks(capture=("q",)), "hooks.capture: 'q' while sampling"),
        (
            Hooks(additions={"q": np.zeros((10, 16))}),
            r"hooks.additions\['q'\]: shape .10, 16. while sampling",
        ),
        (
            Hooks(patches={"q": Patch(np.ones((10, 1)) > 0, 1.0)}),
            r"patches\['q'\].where: shape .10, 1. while",
        ),
        (Hooks({"q": np.ones((2, 16))}, {"q": np.ones((2, 3, 10, 16))}), "one value per token while"),
        (Hooks(norms={"attn_norm": np.ones((2, 3, 10, 1))}), "hooks.norms: 'attn_norm' while sampling"),
    ],
)
def test_hooks_that_differ_by_position_are_refused(tiny, hooks, said):
    config, params, tokens = tiny
    with pytest.raises(InputError, match=said):
        generate(config, params, tokens, 2, jax.random.key(0), hooks=hooks)


def test_other_hooks_of_the_same_shapes_compile_nothing(tiny):
    config, params, tokens = tiny
    programs = {True: sampling._generate_cached, False: sampling._generate_plain}
    for cached, program in programs.items():
        texts, sizes = [], []
        for scale in (0.0, 30.0):
            hooks = Hooks(additions={"final_resid": scale * jax.random.normal(jax.random.key(3), (16,))})
            arguments = {"temperature": 0, "hooks": hooks, "cached": cached}
            texts.append(generate(config, params, tokens[:, :4], 8, jax.random.key(5), **arguments))
            sizes.append(program._cache_size())
        assert sizes[0] == sizes[1]
        assert (texts[0] != texts[1]).any()


def test_a_cache_is_not_run_past_the_context(tiny):
    config, params, tokens = tiny
    cache = model.empty_cache(config, 3)
    with pytest.raises(InputError, match="tokens: 17 per sequence; valid: at most context 16"):
        model.forward_cached(config, params, tokens, cache, 7)
