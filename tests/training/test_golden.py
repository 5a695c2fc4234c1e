"""The numbers of one training step, so that a change of them is seen and decided on."""

import jax
import numpy as np
import pytest

from sparse_jax.training.optimizer import sparse_optimizer
from sparse_jax.training.state import new_state
from sparse_jax.training.step import make_train_step

EXPECTED = {
    "finite": 1.0,
    "gradient_norm": 0.92934096,
    "loss": 5.7015343,
    "up_norm": 0.97343307,
    "up_moved": 0.38099394,
    "down_norm": 0.64845469,
    "down_moved": 0.45915279,
}


def test_the_numbers_of_one_step_are_those_of_before(config):
    optimizer = sparse_optimizer(config.optimizer, config.sparsity, 8, frozen=config.model.frozen)
    tokens = np.random.default_rng(0).integers(0, 300, (8, 17)).astype(np.int32)
    state = jax.jit(lambda: new_state(config.model, optimizer, 0))()
    after, metrics = jax.jit(make_train_step(config.model, optimizer))(state, tokens)
    found = {name: float(value) for name, value in metrics.items()}
    for name in ("up", "down"):
        kernel = np.asarray(after.params["layers"]["mlp"][name]["kernel"], np.float64)
        moved = kernel - np.asarray(state.params["layers"]["mlp"][name]["kernel"])
        found |= {
            f"{name}_norm": np.linalg.norm(kernel).item(),
            f"{name}_moved": np.linalg.norm(moved).item(),
        }
    if found != pytest.approx(EXPECTED, rel=1e-4):
        pytest.fail(
            f"one training step gives {found}, and {EXPECTED} before. If this was not meant, look for what "
            "changed in initialization, model, loss, clipping or optimizer. If it was, put the new numbers "
            "here, and say in CHANGELOG.md that runs of this version cannot be compared with earlier ones."
        )
