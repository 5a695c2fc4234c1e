"""Sampling: the cache changes nothing, and temperature and top-k mean what they say."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sparse_jax.inputs import InputError
from sparse_jax.model import forward as model
from sparse_jax.model.forward import initialize
from sparse_jax.model.generate import generate, sample

forward = jax.jit(model.forward, static_argnums=0)


@pytest.mark.parametrize(
    "changes", [{}, {"positions": "added"}, {"positions": "concatenated", "d_position": 4}]
)
def test_the_cache_changes_no_token(tiny, changes):
    config = dataclasses.replace(tiny[0], **changes)
    params = jax.tree.map(lambda x: x * 8 if x.ndim > 1 else x, initialize(config, jax.random.key(2)))
    prompt, key = tiny[2][:, :4], jax.random.key(5)
    cached = generate(config, params, prompt, 8, key)
    plain = generate(config, params, prompt, 8, key, cached=False)
    np.testing.assert_array_equal(cached, plain)
    assert cached.shape == (3, 12)
    np.testing.assert_array_equal(cached[:, :4], prompt)


def test_temperature_zero_takes_the_most_likely_token(tiny):
    config, params, tokens = tiny
    text = generate(config, params, tokens[:, :4], 6, jax.random.key(0), temperature=0)
    logits = forward(config, params, text[:, :-1])[0]
    np.testing.assert_array_equal(np.argmax(logits[:, 3:], axis=-1), text[:, 4:])


def test_samples_follow_the_softmax_of_the_top_k():
    logits = jnp.tile(jnp.log(jnp.array([0.5, 0.3, 0.15, 0.05])), (20_000, 1))
    drawn = np.bincount(sample(jax.random.key(0), logits, 1.0, None), minlength=4) / 20_000
    np.testing.assert_allclose(drawn, [0.5, 0.3, 0.15, 0.05], atol=0.015)
    drawn = np.bincount(sample(jax.random.key(1), logits, 0.5, 2), minlength=4) / 20_000
    np.testing.assert_allclose(drawn, [25 / 34, 9 / 34, 0, 0], atol=0.015)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"new_tokens": 7}, "new_tokens: 7 is not valid; valid: 0 to 6"),
        ({"temperature": -1.0}, "temperature: -1.0"),
        ({"top_k": 0}, "top_k: 0 is not valid; valid: None, or 1 to 24"),
    ],
)
def test_settings_out_of_range_are_refused(tiny, settings, said):
    config, params, tokens = tiny
    arguments = {"new_tokens": 2, "key": jax.random.key(0), **settings}
    with pytest.raises(InputError, match=said.split(";")[0]):
        generate(config, params, tokens, **arguments)
