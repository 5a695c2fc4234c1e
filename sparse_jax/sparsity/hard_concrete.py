"""Hard-concrete gates: random gates in [0, 1] that are exactly 0 or 1 with positive probability.

A concrete variable s = sigmoid((log(u / (1 - u)) + log_alpha) / BETA), u uniform, is stretched to
(GAMMA, ZETA) and clipped to [0, 1]. The number of gates that are not 0 has an expectation that can be
differentiated, and so can a sample for a given u. Source: Louizos, Welling and Kingma, "Learning sparse
neural networks through L0 regularization" (2018), with its constants.
"""

import math

import jax
import jax.numpy as jnp

from sparse_jax.trees import Array

BETA, GAMMA, ZETA = 2 / 3, -0.1, 1.1
# Uniform numbers stay this far from 0 and 1, where the logarithm is infinite.
MARGIN = 1e-6


def gate_of(log_alpha: Array, u: Array) -> jax.Array:
    """The gates for uniform numbers u in (0, 1), of the shape of `log_alpha`."""
    u = jnp.clip(u, MARGIN, 1 - MARGIN)
    return _stretched(jax.nn.sigmoid((jnp.log(u) - jnp.log1p(-u) + log_alpha) / BETA))


def sample_gates(key: jax.Array, log_alpha: Array) -> jax.Array:
    """Independent random gates."""
    return gate_of(log_alpha, jax.random.uniform(key, jnp.shape(log_alpha)))


def chance_open(log_alpha: Array) -> jax.Array:
    """The probability that a gate is not 0; summed, the expected number of open gates."""
    return jax.nn.sigmoid(log_alpha - BETA * math.log(-GAMMA / ZETA))


def typical_gate(log_alpha: Array) -> jax.Array:
    """The gate to use after training, without noise; exactly 0 for a low `log_alpha`."""
    return _stretched(jax.nn.sigmoid(log_alpha))


def _stretched(s: jax.Array) -> jax.Array:
    return jnp.clip(s * (ZETA - GAMMA) + GAMMA, 0.0, 1.0)
