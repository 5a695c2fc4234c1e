"""Gates: a step of a learned logit, with the slope of a logistic function behind it.

All gates of a model are one flat dict: those of nodes by site ("mlp_in": [L, N], "embed": [N]), those of
edges by source and target ("mlp_in->mlp_neuron": [L, Din, Dout]).
"""

from collections.abc import Mapping

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


def logit_shapes(config: ModelConfig, names: tuple[str, ...], tied_qk: bool) -> dict[str, tuple[int, ...]]:
    """Shapes of the logits of all nodes of the sites `names`; tied, q and k share those of q."""
    return sites.node_shapes(config, tuple(site for site in names if not (tied_qk and site == "k")))


def initial_logits(
    shapes: Mapping[str, tuple[int, ...]], key: jax.Array, mean: float | jax.Array, scale: float | jax.Array
) -> Gates:
    """tau ~ N(mean, scale) in the given shapes."""
    keys = jax.random.split(key, len(shapes))
    return {
        name: mean + scale * jax.random.normal(key, shape) for key, (name, shape) in zip(keys, shapes.items())
    }


def tie(values: Gates, tied_qk: bool = True) -> Gates:
    """The values by gate, with those of q for k where they are tied and q is among them."""
    return {**values, "k": values["q"]} if tied_qk and "q" in values else dict(values)


def open_gates(logits: Gates, temperature: jax.Array | float, tied_qk: bool = False) -> Gates:
    """The gates of all logits; tied, k's are q's."""
    return tie({name: step_gate(tau, temperature) for name, tau in logits.items()}, tied_qk)


def by_kind(gates: Gates) -> tuple[Gates, Gates]:
    """The gates of nodes and those of edges."""
    nodes = {name: gate for name, gate in gates.items() if not sites.is_edge(name)}
    return nodes, {name: gate for name, gate in gates.items() if sites.is_edge(name)}


def count(gates: Gates) -> jax.Array:
    """How many gates are open."""
    return sum(jnp.sum(gate) for gate in gates.values())


def flatten(values: Gates) -> jax.Array:
    """All gates' values as one vector, names in sorted order (the order of `unflatten`)."""
    return jnp.concatenate([values[name].reshape(-1) for name in sorted(values)])


def unflatten(vector: jax.Array, like: Gates) -> Gates:
    """The inverse of `flatten`, in the shapes of `like`."""
    pieces, start = {}, 0
    for name in sorted(like):
        size = like[name].size
        pieces[name] = vector[start : start + size].reshape(like[name].shape)
        start += size
    return pieces
