"""The step, its slope, and moving between arrays by site and one vector."""

import jax
import jax.numpy as jnp
import numpy as np
import scipy.special

from sparse_jax.pruning.gates import count, flatten, initial_logits, open_gates, step_gate, unflatten
from tests.planted import CONFIG


def test_the_gate_is_a_step_that_is_open_at_zero():
    np.testing.assert_array_equal(step_gate(jnp.array([-0.5, -1e-9, 0.0, 0.3])), [0, 0, 1, 1])


def test_its_slope_is_that_of_a_logistic_function():
    tau = jnp.array([-1.0, 0.0, 0.4])
    for temperature in (1.0, 0.5):
        slope = jax.vmap(jax.grad(step_gate), (0, None))(tau, temperature)
        above, below = (scipy.special.expit((tau + h) / temperature) for h in (1e-2, -1e-2))
        np.testing.assert_allclose(slope, (above - below) / 2e-2, rtol=1e-3)


def test_initial_logits_are_normal_and_the_same_for_the_same_key():
    logits = initial_logits(CONFIG, ("q", "mlp_in"), jax.random.key(0), 0.1, 0.01)
    again = initial_logits(CONFIG, ("q", "mlp_in"), jax.random.key(0), 0.1, 0.01)
    values = flatten(logits)
    assert values.shape == (16,) and abs(values.mean() - 0.1) < 0.01 and 0.004 < values.std() < 0.02
    np.testing.assert_array_equal(values, flatten(again))
    assert count(open_gates(logits, 1.0)) == 16


def test_flatten_and_back():
    logits = initial_logits(CONFIG, ("q", "mlp_in", "final_resid"), jax.random.key(0), 0.0, 1.0)
    back = unflatten(flatten(logits), logits)
    assert jax.tree.all(jax.tree.map(lambda a, b: bool((a == b).all()), logits, back))
