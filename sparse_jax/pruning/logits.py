"""Gate logits: a gate is the step function of a learned logit, with the gradient of a logistic function."""

from collections.abc import Mapping

import jax

from sparse_jax.circuits.gates import Gates, tie
from sparse_jax.model import sites
from sparse_jax.model.config import ModelConfig
from sparse_jax.trees import Array


@jax.custom_jvp
def step_gate(tau: jax.Array, temperature: float | Array = 1.0) -> jax.Array:
    """1 where tau >= 0, else 0; its derivative is s(tau/T)(1 - s(tau/T))/T, s the logistic (METHOD 6)."""
    return (tau >= 0).astype(tau.dtype)


@step_gate.defjvp
def _step_gate_jvp(primals, tangents):
    tau, temperature = primals
    s = jax.nn.sigmoid(tau / temperature)
    return step_gate(tau, temperature), tangents[0] * s * (1 - s) / temperature


def logit_shapes(config: ModelConfig, names: tuple[str, ...], tied_qk: bool) -> dict[str, tuple[int, ...]]:
    """Shapes of the logits of all nodes of the sites `names`; if tied, k has none of its own."""
    return sites.node_shapes(config, tuple(site for site in names if not (tied_qk and site == "k")))


def initial_logits(
    shapes: Mapping[str, tuple[int, ...]], key: jax.Array, mean: float | Array, scale: float | Array
) -> Gates:
    """tau ~ N(mean, scale) in the given shapes."""
    keys = jax.random.split(key, len(shapes))
    return {
        name: mean + scale * jax.random.normal(key, shape) for key, (name, shape) in zip(keys, shapes.items())
    }


def open_gates(logits: Gates, temperature: float | Array, tied_qk: bool = False) -> Gates:
    """The gates of all logits; if tied, k gets the gates of q."""
    return tie({name: step_gate(tau, temperature) for name, tau in logits.items()}, tied_qk)
