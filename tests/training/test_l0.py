"""Training with hard-concrete gates: gradients by finite differences, exact zeros, what the penalty does."""

import dataclasses
import functools
import re

import jax
import numpy as np
import pytest
from scipy import special

from sparse_jax.inputs import InputError
from sparse_jax.sparsity.config import SparsityConfig
from sparse_jax.sparsity.hard_concrete import typical_gate
from sparse_jax.training.config import run_config
from sparse_jax.training.l0 import gradients_of, noisy_params, uniform_noise
from sparse_jax.training.loop import train
from sparse_jax.training.program import train_program
from sparse_jax.trees import named_leaves
from tests.tiny_run import lean
from tests.training.test_loop import Killed, kill_after, measured, same_parameters

L0 = {"fraction": 0.5, "method": "l0", "schedule": "constant", "min_per_channel": 0}


def with_gates(config, penalty, **training):
    sparsity = SparsityConfig(**L0, penalty=penalty)
    settings = dataclasses.replace(config.training, **training)
    return dataclasses.replace(config, sparsity=sparsity, training=settings)


@pytest.fixture(scope="module")
def programs(directory):
    """By penalty, a program that learns fast, each made once."""

    @functools.cache
    def of_penalty(penalty):
        config = with_gates(run_config(lean(directory)), penalty, steps=60)
        optimizer = dataclasses.replace(config.optimizer, learning_rate=0.3)
        config = dataclasses.replace(config, optimizer=optimizer)
        return config, train_program(config)

    return of_penalty


def after_steps(config, program, steps):
    """The state on the host."""
    state = jax.jit(program.fresh, out_shardings=program.shardings)()
    tokens = np.random.default_rng(0).integers(0, 300, (config.training.batch_size, 17)).astype(np.int32)
    for _ in range(steps):
        # one at a time: simulated devices that wait for each other too long end the process
        state, metrics = jax.block_until_ready(program.step(state, jax.device_put(tokens, program.rows)))
    assert metrics["finite"]
    return jax.device_get(state)


def test_gradients_are_finite_differences_of_loss_and_penalty(programs):
    """Of (w + 0.1)^2 for every noisy weight w, in float64 with the formulas written out, at fixed noise."""
    state = after_steps(*programs(0.0), 2).opt_state
    rng, penalty, name = np.random.default_rng(0), 50.0, "layers/mlp/up/kernel"
    log_alphas = jax.tree.map(lambda a: rng.normal(0, 2, a.shape).astype(a.dtype), state.log_alpha)
    state = state._replace(log_alpha=log_alphas)

    @jax.jit
    def noise_and_gradients(state):
        gradients = jax.tree.map(lambda leaf: 2 * (leaf + 0.1), noisy_params(state, 3))
        return uniform_noise(state, 3), gradients_of(state, gradients, penalty, 3)

    noise, found = noise_and_gradients(state)
    of_raw, of_gates = map(named_leaves, found)

    total = sum(leaf.size for leaf in jax.tree.leaves(log_alphas))
    u, raw, log_alpha = (
        np.asarray(tree[name], np.float64)
        for tree in (noise, named_leaves(state.raw), named_leaves(log_alphas))
    )

    def objective(raw, log_alpha):
        s = special.expit((special.logit(u) + log_alpha) / (2 / 3))
        gate = np.clip(1.2 * s - 0.1, 0, 1)
        return (raw * gate + 0.1) ** 2 + penalty / total * special.expit(
            log_alpha - 2 / 3 * np.log(0.1 / 1.1)
        )

    h = 1e-6
    for_raw = (objective(raw + h, log_alpha) - objective(raw - h, log_alpha)) / (2 * h)
    for_gates = (objective(raw, log_alpha + h) - objective(raw, log_alpha - h)) / (2 * h)
    np.testing.assert_allclose(of_raw[name], for_raw, atol=1e-5)
    np.testing.assert_allclose(of_gates[name], for_gates, atol=1e-5)
    assert np.abs(for_gates).max() > 0.01
    assert set(of_gates) < set(of_raw)


def test_params_are_the_weights_times_the_gates_and_a_penalty_closes_them(programs):
    shares = []
    typical_gates = jax.jit(lambda log_alphas: {name: typical_gate(a) for name, a in log_alphas.items()})
    for penalty in (0.0, 1e5):
        state = after_steps(*programs(penalty), 60)
        raw, log_alphas = named_leaves(state.opt_state.raw), named_leaves(state.opt_state.log_alpha)
        gates = jax.device_get(typical_gates(log_alphas))
        for name, leaf in named_leaves(state.params).items():
            gate = gates.get(name, 1.0)
            np.testing.assert_allclose(leaf, raw[name] * gate, atol=1e-6)
            if name in gates:
                np.testing.assert_array_equal((leaf != 0) & (raw[name] != 0), (gate > 0) & (raw[name] != 0))
        shares.append(np.mean([np.mean(leaf) for leaf in jax.tree.leaves(state.opt_state.masks)]))
    assert shares[0] > 0.8 and shares[1] < 0.2


@pytest.mark.slow
def test_a_killed_run_resumes_bit_for_bit(config, tmp_path, monkeypatch):
    config = with_gates(config, 1.0)
    whole = train(config, tmp_path / "whole")
    with monkeypatch.context() as patch:
        kill_after(patch, 6)
        with pytest.raises(Killed):
            train(config, tmp_path / "killed")
    resumed = train(config, tmp_path / "killed")
    assert same_parameters(resumed.params, whole.params)
    assert measured(tmp_path / "killed") == measured(tmp_path / "whole")


@pytest.mark.parametrize(
    "changed, said",
    [
        ({"method": "l1"}, "sparsity.method: 'l1' is unknown; valid: l0, topk"),
        ({"penalty": -1.0}, "sparsity.penalty: -1.0 is not valid; valid: 0 or more"),
        ({"method": "topk", "penalty": 1.0}, "valid: 0 with sparsity.method 'topk'"),
        ({"schedule": "power"}, "sparsity.schedule: 'power' is not valid; valid: 'constant'"),
        ({"min_per_channel": 4}, "sparsity.min_per_channel: 4 is not valid; valid: 0"),
        ({"fraction": 1.0}, "sparsity.fraction: 1.0 is not valid; valid: below 1"),
    ],
)
def test_combinations_without_sense_are_refused(changed, said):
    with pytest.raises(InputError, match=re.escape(said)):
        SparsityConfig(**{**L0, **changed})
