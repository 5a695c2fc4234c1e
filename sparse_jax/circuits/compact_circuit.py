"""A circuit as a small model of its own: its nodes and edges alone, the rest folded into constants.

What is dropped has no influence, or a constant one. Closed nodes carry constants, which become biases. They
still compete in AbsTopK, so of each product those columns stay that a kept node feeds, and of the columns
that nothing feeds only their constant magnitudes. The residual stream keeps its width, since norms and the
AbsTopK of what a sub-layer reads see all of it; but it costs one operation per channel where a matrix costs
one per channel and output.
"""

import functools
import os
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from sparse_jax.inputs import InputError, require, whole_numbers
from sparse_jax.model import sites
from sparse_jax.model.attention import attention_pattern
from sparse_jax.model.config import ModelConfig
from sparse_jax.model.forward import check_ids
from sparse_jax.model.hooks import NO_HOOKS
from sparse_jax.model.layers import ACTIVATION, mixed, norm, point
from sparse_jax.model.positions import take_tokens
from sparse_jax.phrases import counted
from sparse_jax.topk.chunks import in_chunks
from sparse_jax.topk.rows import abs_top_k
from sparse_jax.trees import Array

Norms = Mapping[str, Array]


def static(**options: Any) -> Any:
    """A field that is structure, not numbers: compiled functions differ with it."""
    return struct.field(pytree_node=False, **options)


@struct.dataclass
class Levels:
    """Two values for each of n nodes: `high` [n] from `threshold` [n] on, and `low` [n] below.

    own: the share [] of its own value that a node keeps; 1 changes nothing. softness: [n], how near to the
    threshold a value has to be for gradients to see the step, as they see a logistic function.
    """

    low: Array
    high: Array
    threshold: Array
    softness: Array
    own: Array

    def of(self, x: jax.Array) -> jax.Array:
        """The nodes' values x [..., n] on their levels."""
        soft = jax.nn.sigmoid((x - self.threshold) / self.softness)
        step = soft + jax.lax.stop_gradient((x >= self.threshold) - soft)
        level = self.low + (self.high - self.low) * step
        return jnp.asarray(self.own * x + (1 - self.own) * level)


@struct.dataclass
class Reads:
    """The channels of the normed stream that a sub-layer's kept nodes read.

    channels: their numbers. keep: how many of all channels AbsTopK keeps, None for all. norm: the leaves of
    the norm. positions: the normed position channels [T, P] that stand after those of the stream, if any.
    levels: what the nodes' values are rounded to, if they are (`sj.binarize`).
    """

    norm: Mapping[str, Array]
    positions: Array | None
    channels: tuple[int, ...] = static()
    keep: int | None = static()
    levels: Levels | None = None


@struct.dataclass
class Computes:
    """The kept nodes of a site, and the columns that compete with them.

    weights: [n, M]; the first columns are those of `nodes`. bias: [M] or, where it depends on the position,
    [T, M]. constants: [C] or [T, C], the magnitudes of channels that nothing feeds. nodes: the numbers of
    the kept channels. keep, levels: as in `Reads`.
    """

    weights: Array
    bias: Array
    constants: Array
    nodes: tuple[int, ...] = static()
    keep: int | None = static()
    levels: Levels | None = None


@struct.dataclass
class AttentionPart:
    """The heads with a kept node of q, k or v; the others only add to the biases of `out`.

    place_q, place_k, place_v: [n + 1, H * K], where the kept values and a 1 go among the channels that a
    head needs. The last channel of every head carries the constant part of its score, and in v a 1, whose
    mixture is the sum of the attention row. sink: [H]. write: [n + 1, D], what the kept nodes of `out` write
    to the stream, and the constants of the closed ones.
    """

    reads: Reads
    q: Computes
    k: Computes
    v: Computes
    out: Computes
    place_q: Array
    place_k: Array
    place_v: Array
    sink: Array | None
    write: Array
    heads: tuple[int, ...] = static()


@struct.dataclass
class MlpPart:
    """The kept neurons and what they write; `write` as in `AttentionPart`: [n + 1, D]."""

    reads: Reads
    neurons: Computes
    out: Computes
    write: Array


@struct.dataclass
class CompactCircuit:
    """A circuit's own small model, a pytree: see `forward`.

    embed: [V, D]. position: [T, D] that is added, or None. layers: by layer its two sub-layers; one that
    computes nothing is the constant [1, D] or [T, D] that it adds. final: what the unembedding reads, as a
    gate [D] and a value [D] where it is closed. bigram: [V, C] or None, unembed: [D, C], shift: [C], for the
    C tokens of `outputs`. circuit: the fingerprint of the circuit that it was folded from.
    """

    embed: Array
    position: Array | None
    layers: tuple[tuple[Any, Any], ...]
    final: tuple[Array, Array]
    final_norm: Mapping[str, Array]
    unembed: Array
    bigram: Array | None
    shift: Array
    outputs: tuple[int, ...] = static()
    config: ModelConfig = static()
    frozen_norms: bool = static(default=False)
    circuit: str = static(default="")

    def forward(self, tokens_BxT: Array, at_B: Array | None = None, norms: Norms | None = None) -> jax.Array:
        """Logits [B, T, C] of the output tokens, or [B, C] after the token `at` of every sequence.

        They are the gated model's, before calibration, in float32. norms: for a circuit with frozen norms,
        what the full model divides by (`sj.run(model, text, capture=sites.NORMS)`). Pure: jit, vmap and
        differentiate it, also by the arrays of the pytree.

        Raises InputError for more tokens than the context, for norms that are missing or not used and, if it
        is not traced, for what is not a row of whole numbers, and a token or position that does not exist.
        """
        self._check_tokens(tokens_BxT, at_B)
        length = np.shape(tokens_BxT)[1]
        self._check_norms(norms)
        of_sequences = {
            "tokens": jnp.asarray(tokens_BxT),
            "at": None if at_B is None else jnp.asarray(at_B)[:, None],
            "norms": {name: _sequences_first(jnp.asarray(rms)) for name, rms in (norms or {}).items()},
        }
        leaves, structure = jax.tree.flatten(of_sequences)

        def run(model, *leaves):
            return model._run(**jax.tree.unflatten(structure, leaves))

        def few(model, *leaves):
            # a few sequences, whose stream a CPU can keep in its cache
            return in_chunks(functools.partial(run, model), leaves, 8 * length * self.config.d_model)

        logits = jax.lax.platform_dependent(self, *leaves, cpu=few, default=run)
        return logits if at_B is None else logits[:, 0]

    def save(self, directory: str | os.PathLike) -> None:
        """Writes the circuit into `directory`, where `sj.load_compact` finds it: numbers and structure."""
        from sparse_jax.circuits.compact_files import write_compact_circuit

        write_compact_circuit(self, directory)

    def __repr__(self) -> str:
        parts = jax.tree.leaves(self.layers, is_leaf=lambda part: isinstance(part, Reads | Computes))
        nodes = sum(len(part.channels) for part in parts if isinstance(part, Reads))
        nodes += sum(len(part.nodes) for part in parts if isinstance(part, Computes))
        return f"CompactCircuit({counted(nodes, 'node')}, logits of {counted(len(self.outputs), 'token')})"

    def columns(self, tokens: Array) -> np.ndarray:
        """The columns of token ids in the logits, as ordered in `outputs`, in the shape of `tokens`.

        Raises InputError for a token that is not among them.
        """
        same = np.asarray(tokens)[..., None] == np.array(self.outputs)
        others = np.asarray(tokens)[~same.any(axis=-1)].tolist()
        require(not others, "tokens", others[:1], f"those whose logits it gives, {list(self.outputs)}")
        return same.argmax(axis=-1)

    def _run(self, tokens: jax.Array, at: jax.Array | None, norms: Norms) -> jax.Array:
        """Logits [B, A, C] at the positions at [B, A], or at all; norms [B, L, T, 1] ([B, T, 1])."""
        length = tokens.shape[1]
        # a row is copied faster than it is gathered entry by entry inside of what follows
        x = jax.lax.optimization_barrier(jnp.asarray(self.embed)[tokens])
        index = jnp.arange(length)[None]
        if self.position is not None:
            x = x + self.position[:length]
        # after the last attention, other tokens do not affect the logits that are asked for
        attending = [i for i, (part, _) in enumerate(self.layers) if isinstance(part, AttentionPart)]
        last = max(attending, default=0)
        for number, layer in enumerate(self.layers):
            of_layer = {name: rms[:, number] for name, rms in norms.items() if sites.in_layers(name)}
            if at is not None and number > last:
                of_layer = {name: take_tokens(rms, at) for name, rms in of_layer.items()}
            x, index = self._run_layer(layer, x, index, of_layer, at if number == last else None)
        gate, value = self.final
        of_final = norms.get(sites.FINAL_NORM)
        if at is not None:
            tokens = jnp.take_along_axis(tokens, at, axis=1)
            of_final = None if of_final is None else take_tokens(of_final, at)
        logits = normed(self.config, self.final_norm, x * gate + value, of_final) @ self.unembed + self.shift
        return logits if self.bigram is None else logits + jnp.asarray(self.bigram)[tokens]

    def _check_tokens(self, tokens: Array, at: Array | None) -> None:
        is_known = not isinstance(tokens, jax.core.Tracer)
        ids = whole_numbers("tokens", tokens, "rows of token ids of one length") if is_known else tokens
        shape = np.shape(ids)
        require(len(shape) == 2 and 0 not in shape, "tokens", shape, "at least one token each, [B, T]")
        require(shape[1] <= self.config.context, "tokens", shape[1], f"at most context {self.config.context}")
        if is_known:
            check_ids(self.config, ids, "tokens")
        if at is not None and not isinstance(at, jax.core.Tracer):
            valid = f"a position for each of {counted(shape[0], 'sequence')}, 0 to {shape[1] - 1}"
            at_B = whole_numbers("at", at, valid)
            fits = at_B.shape == shape[:1] and (at_B >= 0).all() and (at_B < shape[1]).all()
            require(bool(fits), "at", at, valid)

    def _check_norms(self, norms: Norms | None) -> None:
        if self.frozen_norms and not set(sites.NORMS) <= set(norms or {}):
            valid = f"what sj.run(model, text, capture={sites.NORMS}) captures, since norms are frozen"
            raise InputError(f"norms: {sorted(norms or {})}; valid: {valid}")
        if norms and not self.frozen_norms:
            raise InputError(f"norms: {sorted(norms)}; valid: None, since this circuit has norms of its own")

    def _run_layer(self, layer, x, index, norms: Norms, at_BxA):
        """The stream [B, A, D] after a layer, and the positions [B, A] of its tokens."""
        attention, mlp = layer
        delta = _attend(self.config, attention, x, index, norms, at_BxA)
        if at_BxA is not None:
            x, index = take_tokens(x, at_BxA), at_BxA
            norms = {name: take_tokens(rms, at_BxA) for name, rms in norms.items()}
        x = self._add(x, delta, "resid_mid")
        return self._add(x, _think(self.config, mlp, x, index, norms), "resid_out"), index

    def _add(self, x: jax.Array, delta: jax.Array, site: str) -> jax.Array:
        x = x + delta
        if self.config.residual_activation == "relu":
            x = jax.nn.relu(x)
        return point(self.config, site, x, NO_HOOKS, {})


def _sequences_first(rms: jax.Array) -> jax.Array:
    """[L, B, T, 1] -> [B, L, T, 1]; [B, T, 1] as it is."""
    return rms if rms.ndim == 3 else jnp.moveaxis(rms, 1, 0)


def _attend(config: ModelConfig, part: Any, x_BxTxD, index_BxT, norms: Norms, at_BxA) -> jax.Array:
    """What attention adds to the stream at all tokens or at some, or what broadcasts to it."""
    asked = index_BxT if at_BxA is None else at_BxA
    if not isinstance(part, AttentionPart):
        return _constant_at(part, asked)
    x = _read(config, part.reads, x_BxTxD, index_BxT, norms.get("attn_norm"))
    k, v = (computed(of, x, index_BxT) for of in (part.k, part.v))
    q = computed(part.q, x if at_BxA is None else take_tokens(x, at_BxA), asked)
    q, k, v = with_one(q) @ part.place_q, with_one(k) @ part.place_k, with_one(v) @ part.place_v
    visible = jnp.arange(x.shape[1]) <= asked[..., None]
    visible = visible[0] if len(visible) == 1 else visible
    pattern = attention_pattern(q, k, part.sink, q.shape[-1] // len(part.heads), visible)
    return with_one(computed(part.out, mixed(pattern, v), asked)) @ part.write


def _think(config: ModelConfig, part: Any, x_BxAxD, index_BxA, norms: Norms) -> jax.Array:
    """What the MLP adds to the stream, [B, A, D] or what broadcasts to it."""
    if not isinstance(part, MlpPart):
        return _constant_at(part, index_BxA)
    x = _read(config, part.reads, x_BxAxD, index_BxA, norms.get("mlp_norm"))
    x = computed(part.neurons, x, index_BxA, ACTIVATION[config.activation])
    return with_one(computed(part.out, x, index_BxA)) @ part.write


def _constant_at(table: Array, index_BxA) -> jax.Array:
    """Rows of a table [T, D] by position, or its only one, [1, D]."""
    return jnp.asarray(table) if len(table) == 1 else jnp.asarray(table)[index_BxA]


def with_one(x: jax.Array) -> jax.Array:
    """x [..., n] and a 1 behind it, [..., n + 1]: for what is there without x."""
    return jnp.concatenate([x, jnp.ones_like(x, shape=(*x.shape[:-1], 1))], axis=-1)


def normed(config: ModelConfig, leaves: Mapping[str, Array], x: jax.Array, frozen: Array | None = None):
    """The norm with these leaves; divided by `frozen` instead of the root mean square of x, if given."""
    if frozen is not None:
        return x / frozen * leaves["scale"]
    return norm(config, "norm").apply({"params": leaves}, x)


def _read(config: ModelConfig, reads: Reads, x_BxAxD, index_BxA, frozen: Array | None) -> jax.Array:
    """The values [B, A, n] of the kept nodes that read the stream."""
    x = normed(config, reads.norm, x_BxAxD, frozen)
    if reads.positions is not None:
        rows = jnp.asarray(reads.positions)[index_BxA]
        x = jnp.concatenate([x, jnp.broadcast_to(rows, (*x.shape[:2], rows.shape[-1]))], axis=-1)
    x = x if reads.keep is None else abs_top_k(x, reads.keep)
    # the same columns of every row
    return _on_levels(reads.levels, x[..., np.array(reads.channels, int)])


def computed(part: Computes, x_BxAxN: jax.Array, index_BxA: jax.Array, activation=None) -> jax.Array:
    """The values [B, A, n] of a site's kept nodes, from those of its sources."""

    def at_positions(values: Array) -> jax.Array:
        return jnp.asarray(values)[index_BxA] if values.ndim == 2 else jnp.asarray(values)

    y = x_BxAxN @ part.weights + at_positions(part.bias)
    y = y if activation is None else activation(y)
    if part.keep is not None:
        constants = at_positions(part.constants)
        constants = jnp.broadcast_to(constants, (*y.shape[:-1], constants.shape[-1]))
        y = abs_top_k(jnp.concatenate([y, constants], axis=-1), part.keep)
    return _on_levels(part.levels, y[..., : len(part.nodes)])


def _on_levels(levels: Levels | None, x: jax.Array) -> jax.Array:
    return x if levels is None else levels.of(x)
