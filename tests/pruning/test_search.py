"""Pruning finds the circuit that was put there; lanes are independent and reproducible."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sparse_jax.inputs import InputError, from_mapping
from sparse_jax.pruning.config import PruneConfig
from sparse_jax.pruning.discretize import discretize
from sparse_jax.pruning.objective import pair_losses
from sparse_jax.pruning.search import lanes, optimize_gates
from tests.planted import CIRCUIT, CONFIG, planted_gates, planted_pairs, planted_params

PRUNE = PruneConfig(
    steps=200, pairs_per_step=4, train_pairs=8, learning_rate=0.004, k_coef=0.01, target_loss=0.15
)


@pytest.fixture(scope="module")
def found():
    params, fills = planted_params(), {site: gate * 0.0 for site, gate in planted_gates().items()}
    hyper, seeds = lanes(PRUNE, 2)
    hyper = dataclasses.replace(hyper, k_coef=hyper.k_coef * jnp.array([1.0, 0.0]))
    logits, history = optimize_gates(CONFIG, PRUNE, params, fills, planted_pairs(8), hyper, seeds)
    return params, fills, logits, history


def test_the_planted_circuit_is_found_exactly(found):
    params, fills, logits, history = found
    lane = {site: tau[0] for site, tau in logits.items()}
    result = discretize(CONFIG, params, fills, lane, planted_pairs(8, seed=1), PRUNE.target_loss)
    assert result.reached and result.k == len(CIRCUIT)
    for site, gate in planted_gates().items():
        np.testing.assert_array_equal(result.gates[site], gate, err_msg=site)
    assert history["nodes"].shape == (2, 200) and history["nodes"][0, 0] > history["nodes"][0, -1]
    assert all(np.abs(tau).max() <= 1 for tau in logits.values())


def test_without_a_price_gates_stay_open(found):
    _, _, _, history = found
    assert history["nodes"][1, -1] > 2 * history["nodes"][0, -1]


def test_a_lane_does_not_depend_on_its_neighbors(found):
    params, fills, logits, _ = found
    hyper, seeds = lanes(PRUNE, 1)
    alone, _ = optimize_gates(CONFIG, PRUNE, params, fills, planted_pairs(8), hyper, seeds)
    for site in alone:
        np.testing.assert_allclose(alone[site][0], logits[site][0], atol=1e-4)


def test_the_smallest_passing_k_is_found_where_the_loss_is_not_monotone():
    params, pairs = planted_params(), planted_pairs(4)
    fills = {site: gate * 0.0 for site, gate in planted_gates().items()}
    # the circuit's nodes on ranks 5, 9 and 30, so that most k fail
    gates = planted_gates()
    rng = np.random.default_rng(3)
    order = rng.permutation(sum(gate.size for gate in gates.values()))
    logits = {}
    for site, gate in sorted(gates.items()):
        logits[site] = -0.01 * order[: gate.size].reshape(gate.shape).astype(np.float32)
        order = order[gate.size :]
    sizes = {site: tau.size for site, tau in logits.items()}
    flat = np.concatenate([logits[site].ravel() for site in sorted(logits)])
    by_rank = np.argsort(-flat, kind="stable")
    losses = []
    for k in range(flat.size + 1):
        chosen = np.zeros(flat.size, np.float32)
        chosen[by_rank[:k]] = 1
        parts = np.split(chosen, np.cumsum([sizes[site] for site in sorted(logits)])[:-1])
        opened = {site: part.reshape(gates[site].shape) for site, part in zip(sorted(logits), parts)}
        losses.append(float(pair_losses(CONFIG, params, opened, fills, pairs).mean()))
    for target in (0.1, 0.3, 0.6):
        expected = next(k for k, loss in enumerate(losses) if loss <= target)
        result = discretize(CONFIG, params, fills, jax.tree.map(jnp.asarray, logits), pairs, target)
        assert result.reached and result.k == expected
        assert result.loss == pytest.approx(losses[expected], abs=1e-5)
    never = discretize(CONFIG, params, fills, jax.tree.map(jnp.asarray, logits), pairs, -1.0)
    assert not never.reached and never.loss == pytest.approx(min(losses), abs=1e-5)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"target_loss": 0.0}, "pruning.target_loss: 0.0 is not valid; valid: above 0"),
        ({"sites": ("mlp",)}, "pruning.sites: 'mlp' is unknown"),
        ({"objective": "ce"}, "pruning.objective: 'ce' is unknown"),
        ({"train_pairs": 10}, "pruning.train_pairs: 10 is not valid; valid: at least pairs_per_step 64"),
        ({"k_coeff": 1e-3}, "pruning.k_coeff: unknown field; did you mean 'k_coef'?"),
    ],
)
def test_settings_that_cannot_work_are_named(fields, said):
    with pytest.raises(InputError) as error:
        from_mapping(PruneConfig, fields, "pruning")
    assert said in str(error.value)
