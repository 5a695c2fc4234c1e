"""What closed nodes carry: values of other sequences at the same place, and their mixtures with the mean."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sparse_jax.ablation.kinds import draw_ablated
from sparse_jax.ablation.objective import last_logits
from sparse_jax.model import sites
from sparse_jax.model.config import ModelConfig
from sparse_jax.model.forward import forward, initialize
from sparse_jax.model.hooks import Hooks
from sparse_jax.tasks.encode import EncodedPairs

CONFIG = ModelConfig(vocab_size=20, context=8, n_layers=2, d_model=8, d_head=4)


@pytest.fixture(scope="module")
def drawn():
    params = jax.tree.map(lambda x: 10 * x if x.ndim > 2 else x, initialize(CONFIG, jax.random.key(0)))
    rng = np.random.default_rng(0)
    last = np.array([[7, 7], [3, 7], [5, 2]], np.int32)
    pairs = EncodedPairs(rng.integers(1, 20, (3, 2, 8)).astype(np.int32), last, np.zeros((3, 2, 2), np.int32))
    shapes = sites.node_shapes(CONFIG)
    means = {site: jax.random.normal(jax.random.key(1), shape) for site, shape in shapes.items()}

    @jax.jit
    def draw(key):
        return {
            k: draw_ablated(CONFIG, params, k, means, pairs, key) for k in ("resample", "mixture", "zero")
        }

    captured = forward(CONFIG, params, pairs.tokens.reshape(6, 8), Hooks(capture=tuple(means)))[1]
    return params, pairs, means, jax.device_get(captured), draw


def donor_of(ablated, captured, last):
    """How far ahead in the batch every sequence's donor is, and whether all sites and places agree on it."""
    for shift in range(1, 6):
        donor = (np.arange(6) + shift) % 6
        place = np.minimum(np.arange(8), last.ravel()[donor][:, None])
        same = [
            np.allclose(ablated[site], x[..., donor[:, None], place, :], atol=1e-5)
            for site, x in captured.items()
        ]
        if all(same):
            return shift
    return None


def test_resampled_values_are_those_of_another_sequence_at_the_same_place(drawn):
    _, pairs, _, captured, draw = drawn
    shifts = {donor_of(draw(jax.random.key(i))["resample"], captured, pairs.last) for i in range(12)}
    assert None not in shifts and len(shifts) > 2


def test_a_mixture_lies_between_mean_and_resampled_value_by_one_share_a_sequence_and_node(drawn):
    _, _, means, _, draw = drawn
    found = draw(jax.random.key(3))
    shares = []
    for site, mean in means.items():
        mean = np.asarray(mean)[..., None, None, :]
        away, resampled = found["mixture"][site] - mean, found["resample"][site] - mean
        share = 1 - away / resampled
        np.testing.assert_allclose(share, np.broadcast_to(share[..., :1, :], share.shape), atol=1e-3)
        shares.append(np.ravel(share[..., 0, :]))
    shares = np.concatenate(shares)
    assert shares.min() > -1e-3 and shares.max() < 1 + 1e-3 and 0.45 < shares.mean() < 0.55
    assert len(np.unique(shares.round(5))) > 0.9 * len(shares)


def test_zero_is_zero_and_the_mean_is_the_mean(drawn):
    params, pairs, means, _, draw = drawn
    assert not any(np.any(x) for x in draw(jax.random.key(0))["zero"].values())
    assert draw_ablated(CONFIG, params, "mean", means, pairs, jax.random.key(0)) is means


def test_closed_nodes_take_the_fill_of_their_own_token(drawn):
    params, pairs, means, captured, draw = drawn
    ablated = draw(jax.random.key(0))["resample"]
    gates = {site: jnp.zeros_like(mean) for site, mean in means.items()}
    # with all of the last residual stream from elsewhere, so are the logits, but for the bigram table
    shift = donor_of(ablated, captured, pairs.last)
    found = last_logits(CONFIG, params, gates, ablated, pairs).reshape(6, -1)
    last, tokens, bigram = pairs.last.ravel(), pairs.tokens.reshape(6, 8), params["bigram"]["kernel"]
    whole = jax.jit(lambda: forward(CONFIG, params, tokens)[0])()
    for i in range(6):
        donor = (i + shift) % 6
        at = min(last[i], last[donor])
        expected = whole[donor, at] - bigram[tokens[donor, at]] + bigram[tokens[i, last[i]]]
        np.testing.assert_allclose(found[i], expected, atol=1e-4)
    # a gate in the last layer's attention, whose output is computed at one position only
    one = {"attn_out": jnp.ones((2, 8)).at[1].set(0)}
    patched = last_logits(CONFIG, params, one, ablated, pairs)
    everywhere, _ = forward(
        CONFIG, params, tokens, Hooks(one, {"attn_out": ablated["attn_out"]}, capture=("attn_out",))
    )
    np.testing.assert_allclose(patched.reshape(6, -1), everywhere[jnp.arange(6), last], atol=1e-4)
