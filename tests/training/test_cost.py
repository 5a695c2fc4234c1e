"""What only changes the cost of a run: the same numbers with and without."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sparse_jax.inputs import InputError
from sparse_jax.runtime.memory import needed_bytes
from sparse_jax.training.config import run_config
from sparse_jax.training.loop import train
from sparse_jax.training.optimizer import sparse_optimizer
from sparse_jax.training.sharding import check_batch, make_mesh
from sparse_jax.training.state import new_state
from sparse_jax.training.step import make_train_step
from tests.tiny_run import lean
from tests.training.test_loop import same_parameters

STEPS = 5
TOKENS = np.random.default_rng(0).integers(0, 300, (16, 17)).astype(np.int32)


def compiled(config, accumulate=1, donated=()):
    """The compiled step of a config with annealing."""
    sparsity = dataclasses.replace(config.sparsity, fraction=0.25, schedule="linear", anneal_end=1.0)
    optimizer = sparse_optimizer(config.optimizer, sparsity, STEPS, frozen=config.model.frozen)
    step = jax.jit(make_train_step(config.model, optimizer, accumulate), donate_argnums=donated)
    state = jax.eval_shape(lambda: new_state(config.model, optimizer, 0))
    return step.lower(state, TOKENS).compile()


def advance(state, step):
    """The losses of some steps from a fresh state, and the state after them."""
    found = []
    for _ in range(STEPS):
        state, metrics = step(state, TOKENS)
        found.append(float(metrics["loss"]))
    return found, state


@pytest.fixture(scope="module")
def config(directory):
    """One for all tests, none of which changes it."""
    return run_config(lean(directory))


@pytest.fixture(scope="module")
def start(config):
    """A fresh state: what only changes the cost starts from the same numbers."""
    optimizer = sparse_optimizer(config.optimizer, config.sparsity, STEPS, frozen=config.model.frozen)
    return jax.jit(lambda: new_state(config.model, optimizer, 0))()


@pytest.fixture(scope="module")
def whole(config, start):
    step = compiled(config)
    return (step, *advance(start, step))


def assert_close(found, expected, atol):
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, atol=atol)


def test_microbatches_change_rounding_and_memory_alone(config, start, whole):
    one, losses, state = whole
    four = compiled(config, accumulate=4)
    found, after = advance(start, four)
    np.testing.assert_allclose(found, losses, rtol=1e-6)
    assert_close(after.params, state.params, 1e-6)
    assert four.memory_analysis().temp_size_in_bytes < 0.7 * one.memory_analysis().temp_size_in_bytes


def test_microbatches_must_divide():
    mesh = make_mesh(2, 1, 2)
    check_batch(mesh, 8, 4)
    with pytest.raises(
        InputError, match="batch_size: 8 does not divide over 2 devices .data x fsdp. in 3 micro"
    ):
        check_batch(mesh, 8, 3)


def test_layers_computed_again_change_memory_alone(config, start, whole):
    one, losses, state = whole
    model = dataclasses.replace(config.model, n_layers=2, remat=True)
    again = compiled(dataclasses.replace(config, model=model))
    found, after = advance(start, again)
    np.testing.assert_allclose(found, losses, rtol=1e-6)
    assert_close(after.params, state.params, 1e-6)
    assert again.memory_analysis().temp_size_in_bytes < 0.8 * one.memory_analysis().temp_size_in_bytes


def test_bfloat16_computes_on_float32_masters(config, start, whole):
    _, losses, _ = whole
    model = dataclasses.replace(config.model, compute_dtype="bfloat16")
    half = compiled(dataclasses.replace(config, model=model))
    assert "bf16[" in half.as_text()
    found, after = advance(start, half)
    np.testing.assert_allclose(found, losses, rtol=5e-3)
    floats = [leaf for leaf in jax.tree.leaves(after) if jnp.issubdtype(leaf.dtype, jnp.floating)]
    assert len(floats) > 3 * 10 and all(leaf.dtype == jnp.float32 for leaf in floats)
    # masters hold what bfloat16 cannot; and the projection is exact on them
    kernel = np.asarray(after.params["layers"]["mlp"]["up"]["kernel"])
    kept = kernel[kernel != 0]
    assert np.mean(kept == kept.astype(jnp.bfloat16)) < 0.1
    assert all(np.count_nonzero(layer) == layer.size // 4 for layer in kernel)


@pytest.mark.slow
def test_what_costs_is_in_the_config_of_a_run(mapping, tmp_path):
    """Microbatches, another mesh, and a state that is not donated: a whole run ends with the same model."""
    mapping["model"]["n_layers"] = 1
    plain = train(run_config(mapping), tmp_path / "plain")
    mapping["training"] |= {
        "mesh_data": 1,
        "mesh_tensor": 2,
        "mesh_fsdp": 2,
        "donate": False,
        "accumulate": 2,
    }
    other = train(run_config(mapping), tmp_path / "other")
    assert not same_parameters(other.params, plain.params)
    assert_close(other.params, plain.params, 1e-5)
    # a run may go on with other costs
    assert same_parameters(train(run_config(mapping), tmp_path / "plain").params, plain.params)


def test_a_donated_state_needs_no_room_for_two(config, start, whole):
    held = sum(leaf.nbytes for leaf in jax.tree.leaves(start))
    apart, donated = map(needed_bytes, (whole[0], compiled(config, donated=0)))
    assert apart - donated > 0.9 * held
