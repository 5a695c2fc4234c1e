"""Gate logits, and the gates that follow from them while they are trained.

A gate is the step function of its logit, with the gradient of a logistic function, or a hard-concrete sample.
Either way logits lie in [-1, 1], a higher one is an opener gate, and that order is all that is used of them
after training.
"""

import functools
from collections.abc import Mapping

import jax
import numpy as np

from sparse_jax.circuits.gates import Gates, tie
from sparse_jax.inputs import require
from sparse_jax.model import sites
from sparse_jax.model.config import ModelConfig
from sparse_jax.model.nodes import select
from sparse_jax.pruning.config import PruneConfig
from sparse_jax.sparsity.hard_concrete import chance_open, sample_gates
from sparse_jax.trees import Array, Arrays

# log_alpha of a hard-concrete gate for a logit of 1 at temperature 1: from end to end, gates go from nearly
# never to nearly always open, as those of the step do, with the same step sizes.
LOG_ALPHA = 10.0


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


def allowed_nodes(config: ModelConfig, prune: PruneConfig) -> tuple[Arrays | None, Arrays | None]:
    """(eligible, fixed) for lanes and discretization: 1 for nodes that may be open, and 0 for all others.

    (None, None) if no node is forbidden. Raises InputError for a name in `prune.forbidden` that the model has
    not, or at a site that is not gated.
    """
    if not prune.forbidden:
        return None, None
    chosen = select(config, prune.forbidden)
    for site in chosen:
        require(site in prune.sites, "pruning.forbidden", site, f"nodes of {', '.join(prune.sites)}")
    shapes = sites.node_shapes(config, prune.sites)
    eligible = {site: np.ones(shape, np.float32) - chosen.get(site, 0) for site, shape in shapes.items()}
    if prune.tied_qk:
        both = eligible["q"] * eligible["k"]
        eligible = {**eligible, "q": both, "k": both}
    return eligible, {site: np.zeros(shape, np.float32) for site, shape in shapes.items()}


def initial_logits(
    shapes: Mapping[str, tuple[int, ...]], key: jax.Array, mean: float | Array, scale: float | Array
) -> Gates:
    """tau ~ N(mean, scale) in the given shapes."""
    keys = jax.random.split(key, len(shapes))
    return {name: _normal(key, shape, mean, scale) for key, (name, shape) in zip(keys, shapes.items())}


@functools.partial(jax.jit, static_argnames="shape")
def _normal(key: jax.Array, shape: tuple[int, ...], mean: float | Array, scale: float | Array) -> jax.Array:
    # a program of its own, which lanes and sites of a shape share: many draws in one are slow to compile
    return jax.random.normal(key, shape) * scale + mean


def open_gates(logits: Gates, temperature: float | Array, tied_qk: bool = False) -> Gates:
    """The gates of all logits; if tied, k gets the gates of q."""
    return tie({name: step_gate(tau, temperature) for name, tau in logits.items()}, tied_qk)


def sampled_gates(
    logits: Gates, temperature: float | Array, key: jax.Array, tied_qk: bool = False
) -> tuple[Gates, Gates]:
    """Hard-concrete gates, and the probability that each is open; if tied, k gets those of q."""
    log_alpha = {name: LOG_ALPHA * tau / temperature for name, tau in logits.items()}
    keys = jax.random.split(key, len(log_alpha))
    gates = {name: sample_gates(one, value) for one, (name, value) in zip(keys, sorted(log_alpha.items()))}
    chances = {name: chance_open(value) for name, value in log_alpha.items()}
    return tie(gates, tied_qk), tie(chances, tied_qk)
