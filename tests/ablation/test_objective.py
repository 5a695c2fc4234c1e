"""Losses under gates, against NumPy and a planted circuit; means against a direct computation."""

import functools

import jax
import numpy as np
import scipy.special
import scipy.stats

from sparse_jax.ablation.objective import full_log_probabilities, last_logits, pair_losses
from sparse_jax.model import sites
from sparse_jax.model.hooks import Hooks
from sparse_jax.models.means import node_means
from tests.compiled import forward
from tests.planted import CONFIG, planted_gates, planted_pairs, planted_params

# outside of other programs, each operation would be one of its own
losses_of = jax.jit(functools.partial(pair_losses, CONFIG), static_argnums=4)
logits_of = jax.jit(functools.partial(last_logits, CONFIG))


def test_the_planted_circuit_does_the_task_alone_and_nothing_else_does():
    params, pairs, gates = planted_params(), planted_pairs(6), planted_gates()
    ablated = {site: np.zeros_like(gate) for site, gate in gates.items()}
    assert losses_of(params, gates, ablated, pairs, "binary").max() < 0.15
    rest = {site: 1 - np.asarray(gate) for site, gate in gates.items()}
    assert losses_of(params, rest, ablated, pairs, "binary").min() > np.log(2) - 1e-3


def test_kl_is_that_of_the_whole_model_s_distribution():
    params, pairs = planted_params(), planted_pairs(6)
    gates = {site: 1 - np.asarray(gate) for site, gate in planted_gates().items()}
    ablated = {site: np.zeros_like(gate) for site, gate in gates.items()}
    stacked = jax.tree.map(lambda array: array[None], pairs)
    whole = full_log_probabilities(CONFIG, params, stacked, 4)[0]
    p = scipy.special.softmax(np.float64(logits_of(params, {}, {}, pairs)), axis=-1)
    np.testing.assert_allclose(np.exp(whole), p, atol=1e-6)
    q = scipy.special.softmax(np.float64(logits_of(params, gates, ablated, pairs)), axis=-1)
    expected = scipy.stats.entropy(p, q, axis=-1).mean(axis=1)
    assert expected.min() > 0.01
    kl = losses_of(params, gates, ablated, pairs, "kl", whole)
    np.testing.assert_allclose(kl, expected, atol=1e-5)
    both = losses_of(params, gates, ablated, pairs, "binary+kl", whole)
    binary = losses_of(params, gates, ablated, pairs, "binary")
    np.testing.assert_allclose(both, expected + np.float64(binary), atol=1e-5)


def test_means_are_those_of_all_positions():
    params = planted_params()
    windows = np.random.default_rng(0).integers(0, 8, (6, 5)).astype(np.int32)
    means = node_means(CONFIG, params, windows, batch_size=2)
    captured = forward(CONFIG, params, windows, Hooks(capture=sites.NODE_SITES))[1]
    for site, mean in means.items():
        expected = np.asarray(captured[site], np.float64).mean(axis=(-3, -2))
        np.testing.assert_allclose(mean, expected, atol=1e-5, err_msg=site)
        assert mean.shape == sites.node_shapes(CONFIG)[site]
