"""Gates: a step of a learned logit, with the slope of a logistic function behind it."""

import jax
import jax.numpy as jnp

from sparse_jax.model import sites
from sparse_jax.model.config import ModelConfig

Gates = dict[str, jax.Array]


@jax.custom_jvp
def step_gate(tau: jax.Array, temperature: jax.Array | float = 1.0) -> jax.Array:
    """1 where tau >= 0, else 0; its derivative is s(tau/T)(1 - s(tau/T))/T, s the logistic (METHOD 6)."""
    return (tau >= 0).astype(tau.dtype)


@step_gate.defjvp
def _step_gate_jvp(primals, tangents):
    tau, temperature = primals
    s = jax.nn.sigmoid(tau / temperature)
    return step_gate(tau, temperature), tangents[0] * s * (1 - s) / temperature


def initial_logits(
    config: ModelConfig, names: tuple[str, ...], key: jax.Array, mean: float, scale: float
) -> Gates:
    """tau ~ N(mean, scale) for every node of the sites `names`, [L, N] each."""
    shapes = sites.node_shapes(config, names)
    keys = jax.random.split(key, len(shapes))
    return {
        site: mean + scale * jax.random.normal(key, shape) for key, (site, shape) in zip(keys, shapes.items())
    }


def open_gates(logits: Gates, temperature: jax.Array | float) -> Gates:
    """The gates of all logits."""
    return {site: step_gate(tau, temperature) for site, tau in logits.items()}


def count(gates: Gates) -> jax.Array:
    """How many gates are open."""
    return sum(jnp.sum(gate) for gate in gates.values())


def flatten(values: Gates) -> jax.Array:
    """All nodes' values as one vector, sites in sorted order (the order of `unflatten`)."""
    return jnp.concatenate([values[site].reshape(-1) for site in sorted(values)])


def unflatten(vector: jax.Array, like: Gates) -> Gates:
    """The inverse of `flatten`, in the shapes of `like`."""
    pieces, start = {}, 0
    for site in sorted(like):
        size = like[site].size
        pieces[site] = vector[start : start + size].reshape(like[site].shape)
        start += size
    return pieces
