"""Task losses against hand-worked numbers, and means against a direct computation."""

import jax.numpy as jnp
import numpy as np

from sparse_jax.model import sites
from sparse_jax.model.forward import forward
from sparse_jax.model.hooks import Hooks
from sparse_jax.pruning.means import node_means
from sparse_jax.pruning.objective import pair_losses
from sparse_jax.tasks.metrics import binary_loss, full_vocabulary_loss
from tests.planted import CONFIG, planted_gates, planted_pairs, planted_params


def test_losses_of_one_pair_by_hand():
    # member 0: right token 1 with logit ln 3 against ln 1; member 1: right token 2 at even odds
    logits = jnp.log(jnp.array([[[4.0, 3.0, 1.0], [6.0, 1.0, 1.0]]]))
    candidates = jnp.array([[[1, 2], [2, 1]]])
    binary = -(np.log(3 / 4) + np.log(1 / 2)) / 2
    np.testing.assert_allclose(binary_loss(logits, candidates), [binary], rtol=1e-6)
    full = -(np.log(3 / 8) + np.log(1 / 8)) / 2
    np.testing.assert_allclose(full_vocabulary_loss(logits, candidates), [full], rtol=1e-6)


def test_the_planted_circuit_does_the_task_alone_and_nothing_else_does():
    params, pairs, gates = planted_params(), planted_pairs(4), planted_gates()
    fills = {site: jnp.zeros_like(gate) for site, gate in gates.items()}
    assert pair_losses(CONFIG, params, gates, fills, pairs).max() < 0.15
    rest = {site: 1 - gate for site, gate in gates.items()}
    assert pair_losses(CONFIG, params, rest, fills, pairs).min() > np.log(2) - 1e-3


def test_means_are_those_of_all_positions():
    params = planted_params()
    windows = np.random.default_rng(0).integers(0, 8, (6, 5)).astype(np.int32)
    means = node_means(CONFIG, params, windows, batch_size=2)
    captured = forward(CONFIG, params, windows, Hooks(capture=sites.NODE_SITES))[1]
    for site, mean in means.items():
        expected = np.asarray(captured[site], np.float64).mean(axis=(-3, -2))
        np.testing.assert_allclose(mean, expected, atol=1e-5, err_msg=site)
        assert mean.shape == sites.node_shapes(CONFIG)[site]
