"""A layer's forward pass on some of its nodes; the others are closed for good, with given values.

The values are those of the full model with those nodes closed. All channels compete in AbsTopK, so the
products still compute all outputs; but they read few channels, attention has few heads, and gradients are
computed only for the chosen channels.
"""

import dataclasses
import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax import struct

from sparse_jax.model.attention import attend, attention_pattern
from sparse_jax.model.config import ModelConfig
from sparse_jax.model.hooks import Hooks
from sparse_jax.model.layers import ACTIVATION, block_input, point
from sparse_jax.model.positions import Positions, take_tokens
from sparse_jax.model.products import rows_times_matrix
from sparse_jax.topk.chunks import in_chunks
from sparse_jax.topk.rows import abs_top_k_mask
from sparse_jax.trees import Arrays

# The bytes that a CPU reads per target: its value and its key.
TARGET_BYTES = 8


@struct.dataclass
class OtherHeads:
    """Heads that are not chosen, whose channels carry constants.

    constants: [H, D], what a head adds to the stream, times the sum of its attention row; 0 for chosen ones.
    scores: [H], the score of any query and key in it.
    """

    constants: jax.Array
    scores: jax.Array


@struct.dataclass
class Narrow:
    """The chosen nodes of every layer, and the matrices between them (leading axis L everywhere).

    chosen: whole numbers in ascending order: channels of "attn_in", "mlp_in" and "mlp_neuron", and "heads",
    of which all channels are chosen. Every open node must be among them, except those of attn_out and
    mlp_out.
    kernels: for q, k, v, out, up, down, the rows of the chosen sources, with all columns.
    gradients: for q, k, v, up, the columns of `kernels` for the chosen targets.
    biases: for all six, including the contribution of the sources that are not chosen: [N], or [B, T, N] if
    these carry one value per token.
    other_heads: of heads that are not chosen; None with values per token, where the bias of "out" has what
    they add.
    """

    chosen: Arrays
    kernels: Arrays
    gradients: Arrays
    biases: Arrays
    other_heads: OtherHeads | None = None

    def at(self, at_BxA: jax.Array) -> "Narrow":
        """For values [B, A, N] of some tokens of every sequence."""
        biases = {
            matrix: bias if jnp.ndim(bias) == 1 else take_tokens(bias, at_BxA)
            for matrix, bias in self.biases.items()
        }
        return dataclasses.replace(self, biases=biases)


class NarrowAttention(nn.Module):
    """`Attention` with the layer's gates, ablation values and norms as hooks; no cache or other hooks."""

    config: ModelConfig

    @nn.compact
    def __call__(self, x, position, hooks: Hooks, own: Narrow, positions: Positions, at_BxA=None):
        """x [B, T, D] -> what is added to the stream [B, T, D], or [B, A, D] with `at_BxA`."""
        config = self.config
        x = point(config, "attn_in", block_input(config, x, position, "attn_norm", hooks, {}), hooks, {})
        x = take_columns(x, own.chosen["attn_in"])
        heads_J = own.chosen["heads"]
        columns = (heads_J[:, None] * config.d_head + jnp.arange(config.d_head)).reshape(-1)
        k, v = (targets(config, site, site, x, hooks, own, columns) for site in ("k", "v"))
        if at_BxA is not None:
            x, hooks, positions = take_tokens(x, at_BxA), hooks.at(at_BxA), positions.at(at_BxA)
            own = own.at(at_BxA)
        q = targets(config, "q", "q", x, hooks, own, columns)
        sink = self.get_variable("params", "sink") if config.attention_sink else None
        chosen_sink = None if sink is None else sink[heads_J]
        if at_BxA is None:
            y = attend(q, k, v, chosen_sink, config.d_head, positions.visible)
        else:
            pattern = attention_pattern(q, k, chosen_sink, config.d_head, positions.visible)
            v = v.reshape(*v.shape[:-1], -1, config.d_head)
            y = jnp.einsum("bhts,bshk->bthk", pattern.astype(v.dtype), v).reshape(*q.shape)
        y = product(y, own, "out")
        if own.other_heads is not None:
            y = y + other_heads(sink, own.other_heads, positions.visible).astype(y.dtype)
        return point(config, "attn_out", y, hooks, {})


class NarrowMlp(nn.Module):
    """`Mlp` with the layer's gates, ablation values and norms as hooks; no other hooks."""

    config: ModelConfig

    @nn.compact
    def __call__(self, x, position, hooks: Hooks, own: Narrow):
        """x [B, T, D] -> what is added to the stream [B, T, D]."""
        config = self.config
        x = point(config, "mlp_in", block_input(config, x, position, "mlp_norm", hooks, {}), hooks, {})
        x = take_columns(x, own.chosen["mlp_in"])
        x = targets(config, "mlp_neuron", "up", x, hooks, own, own.chosen["mlp_neuron"])
        return point(config, "mlp_out", product(x, own, "down"), hooks, {})


def product(x, own: Narrow, matrix: str) -> jax.Array:
    """x [..., K] of the chosen sources -> all targets, in the dtype of x."""
    return rows_times_matrix(x, own.kernels[matrix].astype(x.dtype)) + own.biases[matrix].astype(x.dtype)


def targets(config: ModelConfig, site: str, matrix: str, x, hooks: Hooks, own: Narrow, columns_C):
    """The values [..., C] of the chosen nodes of `site`, after AbsTopK over all channels and their gates."""
    kernels = [
        leaf.astype(x.dtype) for leaf in (own.kernels[matrix], own.biases[matrix], own.gradients[matrix])
    ]
    activation = ACTIVATION[config.activation] if site == "mlp_neuron" else _unchanged
    x = _targets(config.kept(site), activation, x, *kernels, columns_C)
    gates, ablated = (
        {name: leaf[..., columns_C] for name, leaf in kind.items() if name == site}
        for kind in (hooks.gates, hooks.ablated)
    )
    return Hooks(gates, ablated).apply(site, x)


def other_heads(sink_H: jax.Array | None, own: OtherHeads, visible_TxS: jax.Array) -> jax.Array:
    """What the heads that are not chosen add, [T, D] or [B, T, D]; all their keys have the same score."""
    seen_Tx1 = jnp.sum(visible_TxS, axis=-1, dtype=jnp.float32)[..., None]
    if sink_H is None:
        return jnp.ones_like(seen_Tx1) * own.constants.sum(axis=0)
    row_sum_TxH = jax.nn.sigmoid(own.scores + jnp.log(seen_Tx1) - sink_H)
    return row_sum_TxH @ own.constants


@jax.custom_vjp
def take_columns(x: jax.Array, columns_K: jax.Array) -> jax.Array:
    """x [..., N] -> [..., K]; the backward pass also uses a gather, which is faster than a scatter."""
    return jnp.take(x, columns_K, axis=-1, mode="clip")


def _take_forward(x, columns_K):
    # the backward pass needs only the width of x
    return take_columns(x, columns_K), (columns_K, jnp.zeros(x.shape[-1:], jnp.int32))


def _take_backward(kept, gradient):
    columns_K, zeros_N = kept
    position_N = (zeros_N - 1).at[columns_K].set(jnp.arange(len(columns_K), dtype=jnp.int32))
    back = jnp.take(gradient, jnp.maximum(position_N, 0), axis=-1, mode="clip")
    return jnp.where(position_N >= 0, back, 0), None


take_columns.defvjp(_take_forward, _take_backward)


def _unchanged(x):
    return x


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _targets(kept, activation, x, kernel, bias, gradients, columns_C):
    """AbsTopK of activation(x @ kernel + bias), its chosen columns [..., C]; only x has gradients.

    bias: [N], or [..., N] as the targets have it.
    """
    return _targets_forward(kept, activation, x, kernel, bias, gradients, columns_C)[0]


def _targets_forward(kept, activation, x, kernel, bias, gradients, columns_C):
    def chosen(x_RxK, bias=bias):
        before = rows_times_matrix(x_RxK, kernel) + bias
        after = activation(before)
        stays = None if kept is None else abs_top_k_mask(after, kept)
        before, after = (jnp.take(value, columns_C, axis=-1, mode="clip") for value in (before, after))
        if stays is not None:
            stays = jnp.take(stays, columns_C, axis=-1, mode="clip")
            after = jnp.where(stays, after, 0)
        return after, before, stays

    # nothing else reads the whole rows, so a CPU need not write them to memory
    chunked = functools.partial(in_chunks, chosen, row_bytes=TARGET_BYTES * bias.shape[-1])
    rows = [x.reshape(-1, x.shape[-1])]
    if bias.ndim > 1:
        rows.append(bias.reshape(-1, bias.shape[-1]))
    found = jax.lax.platform_dependent(*rows, cpu=lambda *rows: chunked(rows), default=chosen)
    after, before, stays = jax.tree.map(lambda value: value.reshape(*x.shape[:-1], -1), found)
    return after, (before, stays, gradients)


def _targets_backward(kept, activation, saved, gradient):
    before, stays, gradients = saved
    if stays is not None:
        gradient = jnp.where(stays, gradient, 0)
    gradient = jax.vjp(activation, before)[1](gradient)[0]
    return rows_times_matrix(gradient, gradients.T), None, None, None, None


_targets.defvjp(_targets_forward, _targets_backward)
