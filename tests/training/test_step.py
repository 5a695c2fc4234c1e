"""One step: the same numbers on any mesh, nothing changed by a bad batch, no second compilation."""

import dataclasses
import math
import os
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sparse_jax.model.hooks import Hooks
from sparse_jax.sparsity.statistics import kurtosis
from sparse_jax.training import evaluation
from sparse_jax.training.evaluation import Evaluator
from sparse_jax.training.loss import next_token_loss
from sparse_jax.training.optimizer import sparse_optimizer
from sparse_jax.training.program import train_program
from sparse_jax.training.state import new_state
from sparse_jax.training.step import make_train_step

pytestmark = pytest.mark.accelerator


@pytest.fixture
def pieces(config):
    optimizer = sparse_optimizer(config.optimizer, config.sparsity, 8, frozen=config.model.frozen)
    tokens = np.random.default_rng(0).integers(0, 300, (8, 17)).astype(np.int32)
    return config, optimizer, tokens


def program_on(config, mesh):
    sizes = dict(zip(("mesh_data", "mesh_fsdp", "mesh_tensor"), mesh))
    training = dataclasses.replace(config.training, batch_size=8, **sizes)
    return train_program(dataclasses.replace(config, training=training), jax.devices()[: math.prod(mesh)])


def run(config, tokens, mesh, steps=6):
    program = program_on(config, mesh)
    # made on one device, so that no mesh has a rounding of its own before the first step
    state = jax.device_put(jax.jit(program.fresh)(), program.shardings)
    losses = []
    for _ in range(steps):
        on_devices = jax.device_put(tokens, program.rows)
        with jax.transfer_guard("disallow"):
            state, metrics = program.step(state, on_devices)
        losses.append(float(metrics["loss"]))
    assert program.step._cache_size() == 1
    assert "callback" not in str(program.step.trace(state, on_devices).jaxpr)
    return losses, state


FURTHER = [pytest.param(mesh, marks=pytest.mark.slow) for mesh in ((2, 1, 2), (4, 1, 1), (1, 4, 1))]


@pytest.mark.several_devices
@pytest.mark.parametrize("mesh", [(1, 2, 2), *FURTHER])
def test_every_mesh_gives_the_same_numbers_and_splits_the_parameters(pieces, mesh):
    config, _, tokens = pieces
    one, expected = run(config, tokens, (1, 1, 1))
    losses, state = run(config, tokens, mesh)
    np.testing.assert_allclose(losses, one, rtol=1e-5)
    for found, leaf in zip(jax.tree.leaves(state.params), jax.tree.leaves(expected.params)):
        np.testing.assert_allclose(found, leaf, atol=1e-5)
    _, fsdp, tensor = mesh
    shard = (2, 16 // fsdp, 64 // tensor)
    kernel = state.params["layers"]["mlp"]["up"]["kernel"]
    assert kernel.addressable_shards[0].data.shape == shard
    like_it = [leaf for leaf in jax.tree.leaves(state.opt_state) if leaf.shape == kernel.shape]
    assert len(like_it) == 3, "two moments and the mask"
    assert all(leaf.sharding.shard_shape(leaf.shape) == shard for leaf in like_it)


def streams(function, *arguments) -> set[str]:
    """Shapes [rows, T, width] of a device's float values in the program, fused as users have it."""
    flag = "xla_cpu_use_fusion_emitters"  # what tests/conftest.py switches off, where jaxlib has it
    compiled = function.lower(*arguments).compile(
        {flag: True} if flag in os.environ.get("XLA_FLAGS", "") else {}
    )
    return set(re.findall(r"f32\[\d+,16,\d+\]", compiled.as_text()))


@pytest.mark.several_devices
def test_what_the_embedding_gives_is_never_whole_on_a_device(pieces, capfd, compiled_anew):
    """Where rows lie on both axes and widths on one, the compiler sees no way but a copy, and warns."""
    config, _, _ = pieces
    program = program_on(config, (2, 2, 1))
    assert "f32[8,16,16]" not in streams(program.step, program.placed, program.tokens)
    assert "rematerialization" not in capfd.readouterr().err


@pytest.mark.slow
@pytest.mark.several_devices
def test_no_device_holds_the_stream_of_rows_that_are_not_its_own(pieces):
    """Left alone, the compiler splits the stream along the width, as the parameters are."""
    config, optimizer, tokens = pieces
    program = program_on(config, (1, 4, 1))
    params, given = program.placed.params, program.tokens

    left_alone = jax.jit(make_train_step(config.model, optimizer))
    assert "f32[8,16,4]" in streams(left_alone, program.placed, given)
    assert "f32[8,16,4]" not in streams(program.step, program.placed, given)
    evaluate = Evaluator(config.model, {"text": tokens}, {"text": 1.0}, 8, program.rows)
    assert "f32[8,16,4]" not in streams(evaluate._loss_and_kurtosis, params, given)


def test_an_evaluation_takes_loss_and_kurtosis_from_one_forward_pass(pieces, monkeypatch):
    config, optimizer, tokens = pieces
    program = program_on(config, (1, 1, 1))
    params, original, traced = new_state(config.model, optimizer, 0).params, evaluation.forward, []

    def counted(*given, **named):
        traced.append(given)
        return original(*given, **named)

    monkeypatch.setattr(evaluation, "forward", counted)
    row = Evaluator(config.model, {"text": tokens}, {"text": 1.0}, 4, program.rows)(params)
    assert len(traced) == 1
    expected = float(next_token_loss(config.model, params, tokens))
    assert row["validation/text"] == pytest.approx(expected, rel=1e-5)
    capture = Hooks(capture=("final_resid",))
    stream = original(config.model, params, tokens[:4, :-1], capture)[1]["final_resid"]
    assert row["kurtosis"] == pytest.approx(float(kurtosis(stream)), rel=1e-4)  # of the first batch


def test_the_loss_is_the_mean_cross_entropy_of_the_next_tokens(pieces):
    config, optimizer, tokens = pieces
    params = new_state(config.model, optimizer, 0).params
    flat = jax.tree.map(jnp.zeros_like, params)
    bias = np.log(np.arange(1, 301) / np.arange(1, 301).sum()).astype(np.float32)
    expected = -bias[tokens[:, 1:]].mean()
    loss = next_token_loss(config.model, {**flat, "logit_bias": jnp.asarray(bias)}, tokens)
    np.testing.assert_allclose(loss, expected, rtol=1e-5)


def test_a_step_that_is_not_finite_changes_nothing(pieces):
    config, optimizer, tokens = pieces
    state = new_state(config.model, optimizer, 0)
    broken = {**state.params, "logit_bias": state.params["logit_bias"].at[0].set(jnp.nan)}
    state = state.replace(params=broken)
    after, metrics = jax.jit(make_train_step(config.model, optimizer))(state, tokens)
    assert not metrics["finite"]
    for before, now in zip(jax.tree.leaves(state), jax.tree.leaves(after)):
        np.testing.assert_array_equal(before, now)


def test_buffers_stay_as_they_were(pieces):
    config, optimizer, tokens = pieces
    state = new_state(config.model, optimizer, 0)
    state = state.replace(params={**state.params, "logit_bias": state.params["logit_bias"] + 0.5})
    after, _ = jax.jit(make_train_step(config.model, optimizer))(state, tokens)
    np.testing.assert_array_equal(after.params["logit_bias"], state.params["logit_bias"])
    assert int(after.step) == 1
