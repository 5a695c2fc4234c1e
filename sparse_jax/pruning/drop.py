"""Drops gates that will stay closed: which nodes a lane still computes, and the matrices between them.

A closed node carries its ablation value, a constant. Its contribution is folded into the biases of its
targets, and its rows and columns are removed from the matrices. This is exact; the only approximation is that
the gate is never reopened, and circuits are judged on the full model.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from sparse_jax.circuits.gates import Gates
from sparse_jax.model import sites
from sparse_jax.model.config import ModelConfig
from sparse_jax.model.forward import Params
from sparse_jax.model.narrow import Narrow
from sparse_jax.pruning.config import PruneConfig
from sparse_jax.pruning.step import Lane
from sparse_jax.trees import Arrays

# Programs are compiled for 1 / part of the width; 1 is the ordinary program (half the width is no faster).
PARTS = (8, 4, 1)
# How often gates are dropped, and lanes may move to a narrower program.
STAGES = 16
# A gate is dropped if opening it would take more than this share of the distance its logit can still rise.
REACH = 0.25
SOURCES = ("attn_in", "heads", "mlp_in", "mlp_neuron")
# (matrix, sub-layer, its sources, its targets if only some of them have gradients)
MATRICES = (
    ("q", "attn", "attn_in", "heads"),
    ("k", "attn", "attn_in", "heads"),
    ("v", "attn", "attn_in", "heads"),
    ("out", "attn", "heads", None),
    ("up", "mlp", "mlp_in", "mlp_neuron"),
    ("down", "mlp", "mlp_neuron", None),
)


def can_compact(prune: PruneConfig, lanes: Lane) -> bool:
    """Whether gates may be dropped: only if all of them are trained and belong to nodes.

    Gates of edges change the matrices at every step.
    """
    return prune.compact and lanes.eligible is None and not lanes.fixed


def stops(prune: PruneConfig) -> list[int]:
    """The steps after which gates are dropped; the last is the end of training."""
    return sorted({max(1, round(stage * prune.steps / STAGES)) for stage in range(1, STAGES + 1)})


def still_alive(logits: Gates, rate_R: np.ndarray, done: int, steps: int) -> Arrays:
    """True [R, ...] for logits that may open again after `done` of the steps.

    AdamW moves a logit by at most about the learning rate per step, and the rate falls linearly to 0, so a
    logit can still move by rate * (steps - done)^2 / (2 steps).
    """
    lowest_R = -REACH * rate_R * (steps - done) ** 2 / (2 * steps)
    # keep logits that are not finite, so that they are noticed
    return {name: ~(tau < lowest_R.reshape(-1, *[1] * (tau.ndim - 1))) for name, tau in logits.items()}


def smallest_parts(config: ModelConfig, alive: Gates) -> np.ndarray:
    """For each lane the largest number in PARTS by which all widths can be divided; `alive` [R, L, N]."""
    counts = {name: mask.sum(axis=-1).max(axis=-1) for name, mask in _by_source(config, alive).items()}
    fits = [
        np.all([count <= chosen_width(config, name, part) for name, count in counts.items()], axis=0)
        for part in PARTS
    ]
    return np.array(PARTS)[np.argmax(fits, axis=0)]


def chosen_width(config: ModelConfig, source: str, part: int) -> int:
    """How many channels of `source` (or how many heads) a program for `part` computes."""
    width = config.n_heads if source == "heads" else sites.width(config, source)
    return -(-width // part)


def alive_nodes(config: ModelConfig, lane: Lane) -> Gates:
    """True [L, N] for the nodes of the layers that are trained or fixed open."""
    assert lane.eligible is not None  # a gate is dropped by making it ineligible
    shapes = sites.node_shapes(config, sites.LAYER_SITES)
    return {
        site: (lane.eligible[site] > 0) | (lane.fixed.get(site, jnp.ones(shape)) > 0)
        for site, shape in shapes.items()
    }


def narrow_model(config: ModelConfig, params: Params, ablated: Gates, alive: Gates, part: int) -> Narrow:
    """The matrices between the nodes in `alive` [L, N], padded with others to a width of 1 / `part`.

    ablated: [L, N] by site, what the nodes that are not chosen carry. The nodes alive must fit into the
    width.
    """
    found = _by_source(config, alive)
    chosen = {
        source: jnp.sort(jax.lax.top_k(mask.astype(jnp.float32), chosen_width(config, source, part))[1])
        for source, mask in found.items()
    }
    width = config.d_head
    channels = {**chosen, "heads": _channels(chosen["heads"], width)}
    left_out = {
        source: jax.vmap(lambda value, rows: value.at[rows].set(0))(
            ablated["v" if source == "heads" else source], channels[source]
        )
        for source in SOURCES
    }
    kernels, gradients, biases = {}, {}, {}
    for matrix, sublayer, source, target in MATRICES:
        linear = params["layers"][sublayer][matrix]
        kernels[matrix] = jnp.take_along_axis(linear["kernel"], channels[source][:, :, None], axis=1)
        if target is not None:
            gradients[matrix] = jnp.take_along_axis(kernels[matrix], channels[target][:, None, :], axis=2)
        biases[matrix] = linear.get("bias", jnp.zeros_like(linear["kernel"][:, 0]))
        if source != "heads":
            biases[matrix] += jnp.einsum("li,lio->lo", left_out[source], linear["kernel"])
    carried = left_out["heads"][:, :, None] * params["layers"]["attn"]["out"]["kernel"]
    heads = (config.n_layers, config.n_heads, width)
    scores = (ablated["q"] * ablated["k"]).reshape(heads).sum(axis=-1) * width**-0.5
    constants = carried.reshape(*heads, -1).sum(axis=2)
    return Narrow(chosen, kernels, gradients, biases, constants, scores)


def _by_source(config: ModelConfig, alive: Gates) -> Gates:
    """What the matrices read: channels, and heads with any channel alive in q, k or v."""
    attention: Any = alive["q"] | alive.get("k", alive["q"]) | alive["v"]
    heads = attention.reshape(*attention.shape[:-1], config.n_heads, config.d_head).any(axis=-1)
    return {"heads": heads, **{source: alive[source] for source in SOURCES if source != "heads"}}


def _channels(heads_LxJ: jax.Array, width: int) -> jax.Array:
    """The channels [L, J * width] of heads."""
    channels = heads_LxJ[:, :, None] * width + jnp.arange(width)
    return channels.reshape(len(heads_LxJ), -1)
