"""The matrices between the nodes of a model that may be open; all others are closed for good.

What a closed node carries, a constant or a given value for each token, does not depend on the open nodes,
nor does what it adds to the nodes that it feeds. That is folded into their biases, once for all sets of open
nodes that are run, and its rows and columns are removed from the matrices. This is exact up to rounding.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from sparse_jax.circuits.gates import Gates
from sparse_jax.model import sites
from sparse_jax.model.attention import attend
from sparse_jax.model.config import ModelConfig
from sparse_jax.model.forward import Params
from sparse_jax.model.narrow import Narrow, OtherHeads

# (matrix, sub-layer, its sources, its targets if only some of them have gradients)
MATRICES = (
    ("q", "attn", "attn_in", "heads"),
    ("k", "attn", "attn_in", "heads"),
    ("v", "attn", "attn_in", "heads"),
    ("out", "attn", "heads", None),
    ("up", "mlp", "mlp_in", "mlp_neuron"),
    ("down", "mlp", "mlp_neuron", None),
)
# Channels, and heads, are divided by one of these numbers. Few, since each pair is a program of its own.
PARTS = (16, 4, 1)


class Widths(NamedTuple):
    """How many channels of each source, and how many heads, a program computes."""

    attn_in: int
    heads: int
    mlp_in: int
    mlp_neuron: int


def full_widths(config: ModelConfig) -> Widths:
    """All channels and heads of the model."""
    channels = {name: sites.width(config, name) for name in Widths._fields if name != "heads"}
    return Widths(heads=config.n_heads, **channels)


def narrowed(widths: Widths, part: int) -> Widths:
    """1 / part of `widths`, rounded up."""
    return Widths(*(-(-width // part) for width in widths))


def nodes_read(config: ModelConfig, alive: Gates) -> dict[str, Any]:
    """Which channels and heads the matrices read; `alive` [..., L, N] by site.

    A head is read if any of its channels is alive in q, k or v.
    """
    attention: Any = alive["q"] | alive.get("k", alive["q"]) | alive["v"]
    heads = attention.reshape(*attention.shape[:-1], config.n_heads, config.d_head).any(axis=-1)
    return {name: heads if name == "heads" else alive[name] for name in Widths._fields}


def widest_layer(config: ModelConfig, alive: Gates) -> dict[str, np.ndarray]:
    """The number of channels and heads read in the layer that has most of them: [...] by source."""
    read = nodes_read(config, alive)
    return {name: np.asarray(chosen.sum(axis=-1).max(axis=-1)) for name, chosen in read.items()}


def fitting_widths(config: ModelConfig, alive: Gates) -> Widths | None:
    """The smallest widths, among few, that what is alive [L, N] fits into; None for those of the model."""
    full = full_widths(config)
    parts = {
        name: next(part for part in PARTS if count <= -(-getattr(full, name) // part))
        for name, count in widest_layer(config, alive).items()
    }
    heads = narrowed(full, parts.pop("heads")).heads
    found = narrowed(full, min(parts.values()))._replace(heads=heads)
    return None if found == full else found


def narrow_model(
    config: ModelConfig,
    params: Params,
    ablated: Gates,
    alive: Gates,
    widths: Widths,
    visible: jax.Array | None = None,
) -> Narrow:
    """The matrices between the nodes in `alive` [L, N], padded with others to `widths`.

    ablated: by site, what the nodes that are not chosen carry: [L, N], or [L, B, T, N] for the sequences that
    will be run, whose tokens see what `visible` says (as in `attend`). The nodes alive must fit.
    """
    found = nodes_read(config, alive)
    chosen = {
        source: jnp.sort(jax.lax.top_k(found[source].astype(jnp.float32), width)[1])
        for source, width in widths._asdict().items()
    }
    width = config.d_head
    channels = {**chosen, "heads": _channels(chosen["heads"], width)}
    left_out = {
        source: jax.vmap(lambda value, rows: value.at[..., rows].set(0))(
            ablated["v" if source == "heads" else source], channels[source]
        )
        for source in chosen
    }
    kernels, gradients, biases = {}, {}, {}
    for matrix, sublayer, source, target in MATRICES:
        linear = params["layers"][sublayer][matrix]
        kernels[matrix] = jnp.take_along_axis(linear["kernel"], channels[source][:, :, None], axis=1)
        if target is not None:
            gradients[matrix] = jnp.take_along_axis(kernels[matrix], channels[target][:, None, :], axis=2)
        biases[matrix] = linear.get("bias", jnp.zeros_like(linear["kernel"][:, 0]))
        if source != "heads":
            biases[matrix] = _plus(biases[matrix], left_out[source], linear["kernel"])
    attention = params["layers"]["attn"]
    if visible is not None:
        others = _unchosen_heads(config, attention, ablated, channels["heads"], visible)
        biases["out"] = _plus(biases["out"], others, attention["out"]["kernel"])
        return Narrow(chosen, kernels, gradients, biases)
    carried = left_out["heads"][:, :, None] * attention["out"]["kernel"]
    heads = (config.n_layers, config.n_heads, width)
    scores = (ablated["q"] * ablated["k"]).reshape(heads).sum(axis=-1) * width**-0.5
    constants = carried.reshape(*heads, -1).sum(axis=2)
    return Narrow(chosen, kernels, gradients, biases, OtherHeads(constants, scores))


def _plus(bias_LxO: jax.Array, value: jax.Array, kernel_LxIxO: jax.Array) -> jax.Array:
    """bias + value @ kernel in every layer, [L, O] or [L, B, T, O] as the value."""
    product = jnp.einsum("l...i,lio->l...o", value, kernel_LxIxO)
    return product + bias_LxO.reshape(len(bias_LxO), *[1] * (product.ndim - 2), -1)


def _unchosen_heads(config: ModelConfig, attention, ablated: Gates, chosen_LxC, visible) -> jax.Array:
    """The outputs [L, B, T, H*K] of heads whose queries, keys and values are all given; 0 for chosen ones."""

    def of_layer(q, k, v, sink, chosen_C):
        return attend(q, k, v, sink, config.d_head, visible).at[..., chosen_C].set(0)

    given = (*(ablated[site] for site in ("q", "k", "v")), attention.get("sink"), chosen_LxC)
    return jax.lax.map(lambda layer: of_layer(*layer), given)


def _channels(heads_LxJ: jax.Array, width: int) -> jax.Array:
    """The channels [L, J * width] of heads."""
    channels = heads_LxJ[:, :, None] * width + jnp.arange(width)
    return channels.reshape(len(heads_LxJ), -1)
