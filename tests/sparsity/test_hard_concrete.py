"""Hard-concrete gates against their density, integrated numerically, and finite differences."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import integrate, special

from sparse_jax.sparsity.hard_concrete import chance_open, gate_of, sample_gates, typical_gate

BETA, GAMMA, ZETA = 2 / 3, -0.1, 1.1
DRAWS = 200_000


def density(s, log_alpha):
    """The density of the concrete variable in (0, 1), equation 24 of the paper's appendix."""
    alpha = np.exp(log_alpha)
    above = BETA * alpha * s ** (-BETA - 1) * (1 - s) ** (-BETA - 1)
    return above / (alpha * s**-BETA + (1 - s) ** -BETA) ** 2


def mass(low, high, log_alpha, of=lambda s: 1.0):
    return integrate.quad(lambda s: of(s) * density(s, log_alpha), low, high, limit=200)[0]


@pytest.mark.parametrize("log_alpha", [-3.0, 0.0, 1.5])
def test_zeros_ones_and_the_mean_are_those_of_the_density(log_alpha):
    zero, one = -GAMMA / (ZETA - GAMMA), (1 - GAMMA) / (ZETA - GAMMA)
    at_zero, at_one = mass(0, zero, log_alpha), mass(one, 1, log_alpha)
    mean = at_one + mass(zero, one, log_alpha, lambda s: s * (ZETA - GAMMA) + GAMMA)
    gates = np.asarray(sample_gates(jax.random.key(0), jnp.full(DRAWS, log_alpha)))
    assert float(chance_open(log_alpha)) == pytest.approx(1 - at_zero, abs=1e-5)
    error = 4 * 0.5 / DRAWS**0.5
    assert (gates == 0).mean() == pytest.approx(at_zero, abs=error)
    assert (gates == 1).mean() == pytest.approx(at_one, abs=error)
    assert gates.mean() == pytest.approx(mean, abs=error)
    assert gates.min() >= 0 and gates.max() <= 1


def test_gradients_are_finite_differences_at_fixed_noise():
    log_alpha, u = np.linspace(-4, 4, 41), np.random.default_rng(0).uniform(0.02, 0.98, 41)

    def reference(value):
        s = special.expit((special.logit(u) + value) / BETA)
        return np.clip(s * (ZETA - GAMMA) + GAMMA, 0, 1)

    np.testing.assert_allclose(gate_of(log_alpha, u), reference(log_alpha), atol=1e-5)
    expected = (reference(log_alpha + 1e-4) - reference(log_alpha - 1e-4)) / 2e-4
    found = jax.grad(lambda value: gate_of(value, u).sum())(jnp.asarray(log_alpha))
    np.testing.assert_allclose(found, expected, atol=1e-3)
    assert (expected == 0).any() and (expected > 0.1).any()


def test_a_typical_gate_is_exactly_closed_or_open_far_from_zero():
    found = typical_gate(jnp.array([-9.0, -2.5, 0.0, 9.0]))
    np.testing.assert_allclose(found, [0, 0, 0.5, 1], atol=1e-6)
    assert found[0] == 0 and found[-1] == 1
    assert jnp.isfinite(gate_of(jnp.zeros(2), jnp.array([0.0, 1.0]))).all()
