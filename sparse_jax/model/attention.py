"""Causal attention with a sink: the pattern, and attention that never holds a whole pattern in memory.

Heads are small (d_head 16), so the cost is dominated by reading and writing scores, not by the products.
`attend` computes a cache-sized block of scores at a time, skips most blocks above the diagonal, and keeps
only the logarithm of each row's denominator: the backward pass recomputes the scores.
"""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp

from sparse_jax.topk import chunks
from sparse_jax.topk.chunks import in_chunks

# queries whose scores are computed at once
BLOCK = 64


def attention_pattern(q, k, sink_H, d_head: int, visible_TxS: jax.Array) -> jax.Array:
    """Attention weights [B, H, T, S] in float32 of q [B, T, H*K] over the keys k [B, S, H*K] that each sees.

    The visible keys may differ by sequence, [B, T, S]. The sink is one more logit in the denominator of each
    head, without a value, so the weights of a row may sum to less than 1 (METHOD 1). The softmax is written
    out because its gradients are exact; those of fused attention rescaled by its (stop-gradiented) lse are
    not.
    """
    q = q.reshape(*q.shape[:-1], -1, d_head)
    k = k.reshape(*k.shape[:-1], -1, d_head)
    scores = jnp.einsum("bthk,bshk->bhts", q, k, preferred_element_type=jnp.float32) * d_head**-0.5
    visible = visible_TxS if visible_TxS.ndim == 2 else visible_TxS[:, None]
    scores = jnp.where(visible, scores, -jnp.inf)
    largest = jnp.max(scores, axis=-1, keepdims=True)
    if sink_H is not None:
        sink = sink_H.astype(jnp.float32)[:, None, None]
        largest = jnp.maximum(largest, sink)
    largest = jax.lax.stop_gradient(largest)
    weights = jnp.exp(scores - largest)
    total = jnp.sum(weights, axis=-1, keepdims=True)
    if sink_H is not None:
        total = total + jnp.exp(sink - largest)
    return weights / total


def attend(q, k, v, sink_H: jax.Array | None, d_head: int, visible_TxT: jax.Array) -> jax.Array:
    """Attention output [B, T, H*K]: softmax(q k / sqrt(K)) v for every head; q, k, v are [B, T, H*K].

    The sink is one more logit in the denominator of each head (METHOD 1). visible, [T, T] or [B, T, T], must
    be true for the token itself and false for all later ones. Scores are float32.
    """
    heads = q.shape[-1] // d_head
    sink_H = jnp.full(heads, -jnp.inf) if sink_H is None else sink_H.astype(jnp.float32)
    visible = visible_TxT[:, None] if visible_TxT.ndim == 3 else visible_TxT
    return _attend(q, k, v, sink_H, visible)


@jax.custom_vjp
def _attend(q, k, v, sink_H, visible):
    """q, k, v [B, T, H*K] -> the same shape; visible [T, T] or [B, 1, T, T]."""
    return _forward(q, k, v, sink_H, visible)[0]


def _forward(q, k, v, sink_H, visible):
    read, logs = _of_sequences(_read, [q, k, v], sink_H, visible)
    return read, (q, k, v, sink_H, visible, read, logs)


def _backward(kept, gradient):
    q, k, v, sink_H, visible, read, logs = kept
    given = [q, k, v, read, gradient, logs]
    dq, dk, dv, dsink_Bx1xH = _of_sequences(_gradients, given, sink_H, visible)
    return dq, dk, dv, jnp.sum(dsink_Bx1xH, axis=(0, 1)), None


_attend.defvjp(_forward, _backward)


def _of_sequences(function: Callable, arrays: Sequence[jax.Array], sink_H, visible):
    """function(sink_H, visible, *arrays); on a CPU, for a few sequences, or some heads of one, at a time.

    Arrays and results are [B, T, H*K], heads side by side, with K of their own.
    """
    batch, tokens, heads = *arrays[0].shape[:2], len(sink_H)
    head_bytes = 4 * min(BLOCK, tokens) * tokens

    def of_all(sink_H, visible, *arrays):
        return function(sink_H, visible, *arrays)

    def few(sink_H, visible, *arrays):
        together = heads_at_once(heads, head_bytes)
        parts = heads // together
        sinks = jnp.tile(sink_H.reshape(parts, together), (batch, 1))
        given = [_apart(x, parts) for x in arrays]
        if visible.ndim == 2:
            found = in_chunks(
                lambda sinks, *given: function(sinks, visible, *given), [sinks, *given], together * head_bytes
            )
        else:
            masks = jnp.repeat(visible, parts, axis=0)
            found = in_chunks(function, [sinks, masks, *given], together * head_bytes)
        return tuple(_beside(x, parts) for x in found)

    return jax.lax.platform_dependent(sink_H, visible, *arrays, cpu=few, default=of_all)


def heads_at_once(heads: int, head_bytes: int) -> int:
    """The most heads of a sequence whose scores fit into the cache of a lone CPU device, a divisor of all."""
    if jax.device_count() > 1:
        return heads
    fit = max(1, chunks.CACHE_BYTES // head_bytes)
    return max(part for part in range(1, heads + 1) if heads % part == 0 and part <= fit)


def _apart(x, parts: int) -> jax.Array:
    """[B, T, N] -> [B*parts, T, N/parts]: parts of the heads as sequences of their own."""
    batch, tokens, _ = x.shape
    return x.reshape(batch, tokens, parts, -1).swapaxes(1, 2).reshape(batch * parts, tokens, -1)


def _beside(x, parts: int) -> jax.Array:
    """The inverse of `_apart`."""
    rows, tokens, _ = x.shape
    return x.reshape(rows // parts, parts, tokens, -1).swapaxes(1, 2).reshape(rows // parts, tokens, -1)


def _read(sinks, visible, *q_k_v):
    """The output [B, T, H*K], and the logarithm of every row's denominator [B, T, H]; sinks [H] or [B, H]."""
    q, k, v = (_split(x, sinks.shape[-1]) for x in q_k_v)
    sink, scale = sinks[..., None, None], q.shape[-1] ** -0.5
    read, logs = [], []
    for rows, end in _blocks(q.shape[2]):
        scores = _product(q[:, :, rows], k[:, :, :end], 3, 3) * scale
        scores = jnp.where(visible[..., rows, :end], scores, -jnp.inf)
        largest = jnp.maximum(jnp.max(scores, axis=-1, keepdims=True), sink)
        weights = jnp.exp(scores - largest)
        total = jnp.sum(weights, axis=-1, keepdims=True) + jnp.exp(sink - largest)
        read.append((_product(weights.astype(v.dtype), v[:, :, :end], 3, 2) / total).astype(v.dtype))
        logs.append(largest + jnp.log(total))
    return _joined(jnp.concatenate(read, axis=2)), _joined(jnp.concatenate(logs, axis=2))


def _gradients(sinks, visible, *given):
    """Gradients of q, k, v [B, T, H*K] and of the sinks [B, 1, H], from that of the output."""
    q, k, v, read, gradient, logs = (_split(x, sinks.shape[-1]) for x in given)
    # transpose the small operands, so that no product has to transpose a block of weights
    q_T, k_T, v_T, gradient_T = (x.swapaxes(2, 3) for x in (q, k, v, gradient))
    along = jnp.sum((gradient * read).astype(jnp.float32), axis=-1, keepdims=True)
    scale = q.shape[-1] ** -0.5
    dq, dk, dv = [], jnp.zeros(k_T.shape, jnp.float32), jnp.zeros(v_T.shape, jnp.float32)
    for rows, end in _blocks(q.shape[2]):
        scores = _product(q[:, :, rows], k_T[..., :end], 3, 2) * scale
        weights = jnp.where(visible[..., rows, :end], jnp.exp(scores - logs[:, :, rows]), 0)
        change = _product(gradient[:, :, rows], v_T[..., :end], 3, 2) - along[:, :, rows]
        change = (weights * change * scale).astype(q.dtype)
        dq.append(_product(change, k[:, :, :end], 3, 2).astype(q.dtype))
        dk = dk.at[..., :end].add(_product(q_T[..., rows], change, 3, 2))
        dv = dv.at[..., :end].add(_product(gradient_T[..., rows], weights.astype(v.dtype), 3, 2))
    dsinks = -jnp.sum(along * jnp.exp(sinks[..., None, None] - logs), axis=2, keepdims=True)
    dk, dv = (x.swapaxes(2, 3).astype(k.dtype) for x in (dk, dv))
    return tuple(_joined(x) for x in (jnp.concatenate(dq, axis=2), dk, dv, dsinks))


def _blocks(tokens: int) -> list[tuple[slice, int]]:
    """Blocks of rows of scores, each with the number of keys that its last row may see."""
    ends = range(BLOCK, tokens + BLOCK, BLOCK)
    return [(slice(end - BLOCK, min(end, tokens)), min(end, tokens)) for end in ends]


def _product(a, b, axis_of_a: int, axis_of_b: int) -> jax.Array:
    """The product of every head of every sequence over the given axes, in float32."""
    contracted = (((axis_of_a,), (axis_of_b,)), ((0, 1), (0, 1)))
    return jax.lax.dot_general(a, b, contracted, preferred_element_type=jnp.float32)


def _split(x, heads: int) -> jax.Array:
    """[B, T, H*K] -> [B, H, T, K]"""
    return x.reshape(*x.shape[:-1], heads, -1).swapaxes(1, 2)


def _joined(x) -> jax.Array:
    """[B, H, T, K] -> [B, T, H*K]"""
    return x.swapaxes(1, 2).reshape(x.shape[0], x.shape[2], -1)
