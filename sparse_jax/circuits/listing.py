"""What a compact circuit computes, step by step with named nodes, as a person would write it down.

Three things of the circuit are replaced by numbers that were recorded on prompts: what a norm divides by (a
mean, and a factor for each token), the cut of AbsTopK (a threshold for each node), and what the embedding
writes (a table of the tokens that occur).
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from sparse_jax.circuits.compact_circuit import AttentionPart, CompactCircuit, Computes, MlpPart, Reads
from sparse_jax.circuits.folding import require_plain_stream
from sparse_jax.circuits.gates import Gates
from sparse_jax.circuits.graph import Circuit
from sparse_jax.circuits.record import ROW_SUMS, Record
from sparse_jax.model import sites
from sparse_jax.model.config import ModelConfig
from sparse_jax.model.layers import ACTIVATION
from sparse_jax.models.model import Model
from sparse_jax.tasks.encode import EncodedPairs

# how a factor of the norm's size is called, by sub-layer
SCALE, FINAL_SCALE = "scale", "scale_final"


class Table(NamedTuple):
    """A number for each token: `usual`, and by token id how far others are from it."""

    usual: float
    others: Mapping[int, float]


# Points (position, value) of a line.
Knots = tuple[tuple[int, float], ...]


@dataclasses.dataclass(frozen=True)
class Sum:
    """A node's value: terms (name of an array, coefficient) and a constant, and more if it reads the stream.

    table: what the embedding adds, by token. by_position: where the constant depends on the position, knots
    (position, value) of a line, which stands for it. scale: the name of the factor of the norm, if any.
    shift: the bias of the norm, which comes after that factor. activation: the name of a function, or "".
    threshold: the magnitude below which AbsTopK cuts it, 0 where it never does. excited: the tokens at which
    it is largest, and smallest.
    """

    name: str
    terms: tuple[tuple[str, float], ...]
    constant: float
    table: Table | None = None
    by_position: Knots = ()
    scale: str = ""
    shift: float = 0.0
    activation: str = ""
    threshold: float = 0.0
    excited: tuple[tuple[int, ...], tuple[int, ...]] = ((), ())
    # the means of the terms that are constants weighted by attention, by name
    means: tuple[tuple[str, float], ...] = ()


@dataclasses.dataclass(frozen=True)
class Scale:
    """By token, the usual root mean square of the stream divided by its own."""

    name: str
    table: Table


@dataclasses.dataclass(frozen=True)
class Head:
    """A head's attention: its sink, and the terms of its scores (query or "", key or "", coefficient)."""

    name: str
    terms: tuple[tuple[str, str, float], ...]
    sink: float | None


@dataclasses.dataclass(frozen=True)
class Logit:
    """The logit of an output token after the last token: scale * (terms + line) + constant + table.

    terms: (name of a node's array, taken at the last token, coefficient). by_position: as in `Sum`, but
    beside the constant, not instead of it. scale: the factor FINAL_SCALE.
    """

    token: int
    terms: tuple[tuple[str, float], ...]
    constant: float
    table: Table
    by_position: Knots


Step = Sum | Scale | Head


@dataclasses.dataclass(frozen=True)
class Listing:
    """The steps in their order, and the logits of all outputs."""

    steps: tuple[Step, ...]
    logits: tuple[Logit, ...]


def listing_of(
    model: Model, circuit: Circuit, values: Gates, small: CompactCircuit, pairs: EncodedPairs
) -> Listing:
    """The steps of `small`, which was folded from `circuit`, with what is recorded on the prompts of `pairs`.

    Raises InputError for a model whose residual stream is not a sum.
    """
    require_plain_stream(model.config)
    return _Writer(small, Record.of(model, circuit, values, pairs)).listing()


def name_of(site: str, layer: int, index: int) -> str:
    """The name of a node's array: "mlp_neuron_1_17"."""
    return f"{site}_{layer}_{index}"


def _table(record: Record, of_tokens_V: np.ndarray, chosen: np.ndarray | None = None) -> Table:
    """A number for each token as a table of those that occur (among the `chosen` positions)."""
    token = record.token if chosen is None else record.token[chosen]
    usual = float(np.median(of_tokens_V[token]))
    found = {int(t): float(of_tokens_V[t] - usual) for t in np.unique(token)}
    return Table(usual, {t: x for t, x in found.items() if abs(x) > 1e-9})


class _Writer:
    """Writes the listing; keeps track of what has been added to every channel of the stream."""

    def __init__(self, small: CompactCircuit, record: Record) -> None:
        self.small, self.record, self.config = small, record, small.config
        self.embed = np.asarray(small.embed, np.float64)
        rows = np.zeros((self.config.context, self.config.d_model))
        self.base_TxD = rows if small.position is None else rows + small.position
        self.writers: dict[int, list[str]] = {}
        self.steps: list[Step] = []

    def listing(self) -> Listing:
        for layer, (attention, mlp) in enumerate(self.small.layers):
            if isinstance(attention, AttentionPart):
                self._attention(attention, layer)
            else:
                self._constant(attention)
            if isinstance(mlp, MlpPart):
                self._mlp(mlp, layer)
            else:
                self._constant(mlp)
        logits = self._logits()
        return Listing(tuple(self.steps), logits)

    def _constant(self, table) -> None:
        table = np.asarray(table, np.float64)
        self.base_TxD = self.base_TxD + (table if len(table) == 1 else table[: self.config.context])

    def _reads(self, reads: Reads, site: str, norm: str, layer: int) -> list[str]:
        """The steps of what a sub-layer reads; returns the nodes' names."""
        mean_N, size_N = self.record.mean[norm, layer], self.record.size[norm, layer]
        usual = 1 / float(np.mean(1 / size_N))
        scale = f"{SCALE}_{norm.removesuffix('_norm')}_{layer}"
        if reads.channels:
            factor = usual * self.record.average(1 / size_N, self.config.vocab_size)
            self.steps.append(Scale(scale, _table(self.record, factor)))
        gains = np.asarray(reads.norm["scale"], np.float64)
        shifts = np.asarray(reads.norm.get("bias", np.zeros_like(gains)), np.float64)
        names = []
        for channel in reads.channels:
            name = name_of(site, layer, channel)
            x_N = self.record.values[site, layer][:, channel]
            if channel >= self.config.d_model:
                positions = np.asarray(reads.positions)[:, channel - self.config.d_model]
                exact = positions[self.record.position]
                step = Sum(name, (), float(exact.mean()), by_position=self._knots(positions))
            else:
                gain = float(gains[channel]) / usual
                base = gain * (self.base_TxD[:, channel] - mean_N.mean())
                terms = tuple((writer, gain) for writer in self.writers.get(channel, []))
                table = _table(self.record, gain * self.embed[:, channel])
                positions = base[self.record.position]
                constant, shift = float(positions.mean()), float(shifts[channel])
                step = Sum(name, terms, constant, table, self._knots(base), scale, shift)
                stream = "resid_in" if norm == "attn_norm" else "resid_mid"
                centered = self.record.values[stream, layer][:, channel] - mean_N
                exact = centered / size_N * gains[channel] + shifts[channel]
            self._append(step, exact, x_N)
            names.append(name)
        return names

    def _knots(self, by_position_T: np.ndarray) -> Knots:
        """A value for each position that occurs as knots; none if it is the same everywhere."""
        values = by_position_T[: self.record.position.max() + 1]
        return tuple(enumerate(values.tolist())) if np.ptp(values) > 1e-6 else ()

    def _append(self, step: Sum, exact_N: np.ndarray, x_N: np.ndarray) -> None:
        """Adds a step with the threshold that separates best where AbsTopK cut it, and what excites it."""
        threshold = separating(np.abs(exact_N), x_N == 0)
        excited = self.record.excited(x_N)
        self.steps.append(dataclasses.replace(step, threshold=threshold, excited=excited))

    def _sums(self, part: Computes, site: str, layer: int, sources, values_NxM, activation="") -> list[str]:
        """The steps of a site's kept nodes; values [N, M]: those of the sources."""
        names, count = [], len(part.nodes)
        weights = np.asarray(part.weights, np.float64)[:, :count]
        bias = np.asarray(part.bias, np.float64)[..., :count]
        for column, node in enumerate(part.nodes):
            name = name_of(site, layer, node)
            terms = tuple((s, float(w)) for s, w in zip(sources, weights[:, column]) if w != 0)
            base = bias[..., column]
            at_N = base[self.record.position] if base.ndim else base
            exact = values_NxM @ weights[:, column] + at_N
            if activation:
                exact = _activated(self.config, exact)
            by_position = self._knots(base) if base.ndim else ()
            means = tuple(
                (source, float(x_N.mean()))
                for source, x_N in zip(sources, values_NxM.T)
                if source.endswith(".sum(1)")
            )
            step = Sum(
                name, terms, float(np.mean(at_N)), None, by_position, activation=activation, means=means
            )
            self._append(step, exact, self.record.values[site, layer][:, node])
            names.append(name)
        return names

    def _write(self, write, site: str, layer: int, nodes: Sequence[int]) -> None:
        self.base_TxD = self.base_TxD + np.asarray(write, np.float64)[-1]
        for node in nodes:
            self.writers.setdefault(node, []).append(name_of(site, layer, node))

    def _mlp(self, part: MlpPart, layer: int) -> None:
        sources = self._reads(part.reads, "mlp_in", "mlp_norm", layer)
        values = self.record.values["mlp_in", layer][:, list(part.reads.channels)]
        neurons = self._sums(part.neurons, "mlp_neuron", layer, sources, values, self.config.activation)
        values = self.record.values["mlp_neuron", layer][:, list(part.neurons.nodes)]
        self._sums(part.out, "mlp_out", layer, neurons, values)
        self._write(part.write, "mlp_out", layer, part.out.nodes)

    def _attention(self, part: AttentionPart, layer: int) -> None:
        sources = self._reads(part.reads, "attn_in", "attn_norm", layer)
        values = self.record.values["attn_in", layer][:, list(part.reads.channels)]
        q, k, v = (self._sums(getattr(part, site), site, layer, sources, values) for site in ("q", "k", "v"))
        count = len(part.heads)
        place_q, place_k, place_v = (
            np.asarray(place, np.float64).reshape(len(place), count, -1)
            for place in (part.place_q, part.place_k, part.place_v)
        )
        mixed, exact, rows = [], [], []
        for number, head in enumerate(part.heads):
            name = f"head_{layer}_{head}"
            terms = _products([*q, ""], [*k, ""], place_q[:, number], place_k[:, number])
            self.steps.append(Head(name, terms, None if part.sink is None else float(part.sink[number])))
            for slot in range(place_v.shape[2]):
                if not place_v[:, number, slot].any():
                    continue  # another head needs more channels
                rows.append(number * place_v.shape[2] + slot)
                row = int(np.argmax(place_v[:, number, slot]))
                if row < len(v):
                    mixed.append(f"{name} @ {v[row]}")
                    exact.append(self.record.values["heads", layer][:, part.v.nodes[row]])
                else:
                    mixed.append(f"{name}.sum(1)")
                    exact.append(self.record.values[ROW_SUMS, layer][:, head])
        out = dataclasses.replace(part.out, weights=np.asarray(part.out.weights)[rows])
        self._sums(out, "attn_out", layer, mixed, np.stack(exact, axis=1))
        self._write(part.write, "attn_out", layer, part.out.nodes)

    def _logits(self) -> tuple[Logit, ...]:
        small, record, last = self.small, self.record, self.record.last
        size_N, mean_N = (x[sites.FINAL_NORM, 0] for x in (record.size, record.mean))
        gate, closed = (np.asarray(x, np.float64) for x in small.final)
        norm = {name: np.asarray(x, np.float64) for name, x in small.final_norm.items()}
        unembed = np.asarray(small.unembed, np.float64)
        shift = np.asarray(small.shift) + norm.get("bias", np.zeros(len(unembed))) @ unembed
        usual = 1 / float(np.mean(1 / size_N[last]))
        gains_DxC = norm["scale"][:, None] * unembed / usual
        gains_DxC = gains_DxC - gains_DxC.mean(axis=1, keepdims=True)
        factor_V = usual * record.average(1 / size_N, self.config.vocab_size, last)
        self.steps.append(Scale(FINAL_SCALE, _table(record, factor_V, last)))
        # at each position, and less its mean, which is part of the constant
        base_TxC = (self.base_TxD * gate + closed - mean_N[last].mean()) @ gains_DxC
        mean_C = base_TxC[record.position[last]].mean(axis=0)
        tokens_VxC = factor_V[:, None] * ((self.embed * gate) @ gains_DxC + mean_C) - mean_C
        if small.bigram is not None:
            bigram = np.asarray(small.bigram, np.float64)
            tokens_VxC = tokens_VxC + bigram - bigram.mean(axis=1, keepdims=True)
        constant_C = mean_C + shift - shift.mean()
        found = []
        for column, token in enumerate(small.outputs):
            gains = gains_DxC[:, column] * gate
            terms = tuple(
                (writer, float(gains[channel]))
                for channel, writers in sorted(self.writers.items())
                for writer in writers
                if gains[channel] != 0
            )
            line = self._knots((base_TxC - mean_C)[:, column])
            table = _table(record, tokens_VxC[:, column], last)
            found.append(Logit(token, terms, float(constant_C[column]), table, line))
        return tuple(found)


def _products(queries, keys, place_q, place_k) -> tuple[tuple[str, str, float], ...]:
    """The terms of a head's scores, from where its queries and keys are placed, [n + 1, K] each."""
    found: dict[tuple[str, str], float] = {}
    for slot in range(place_q.shape[1]):
        for row in np.flatnonzero(place_q[:, slot]):
            for column in np.flatnonzero(place_k[:, slot]):
                # what `attention_pattern` divides by
                value = place_q[row, slot] * place_k[column, slot] * place_q.shape[1] ** -0.5
                pair = queries[row], keys[column]
                found[pair] = found.get(pair, 0.0) + float(value)
    return tuple((query, key, value) for (query, key), value in found.items())


def _activated(config: ModelConfig, x: np.ndarray) -> np.ndarray:
    return np.asarray(ACTIVATION[config.activation](jnp.asarray(x, jnp.float32)), np.float64)


def separating(size_N: np.ndarray, cut_N: np.ndarray) -> float:
    """The threshold of the magnitudes `size` that is wrong least often about which are cut; 0 if none are.

    >>> separating(np.array([1.0, 2.0, 3.0]), np.array([True, False, False]))
    1.5
    """
    cut_N = cut_N & (size_N > 0)
    if not cut_N.any():
        return 0.0
    if cut_N.all():
        return float("inf")
    order = np.argsort(size_N)
    size, cut = size_N[order], cut_N[order]
    # wrong with a threshold just below number i: cut ones from there on, kept ones before
    wrong = np.append(cut[::-1].cumsum()[::-1], 0) + np.append(0, (~cut).cumsum())
    best = int(np.argmin(wrong))
    if best == len(size):
        return float("inf")
    return float(size[best] / 2 + (size[best - 1] / 2 if best else size[best] / 2))


def fewer_knots(knots: Knots, count: int) -> Knots:
    """`count` of the knots, at least 2, each chosen where the line through the ones before is most wrong.

    >>> fewer_knots(((0, 0.0), (1, 3.0), (2, 2.0), (3, 1.0), (4, 0.0)), 3)
    ((0, 0.0), (1, 3.0), (4, 0.0))
    """
    if len(knots) <= count:
        return knots
    x, y = (np.array(column, float) for column in zip(*knots))
    chosen = {0, len(knots) - 1}
    while len(chosen) < count:
        at = sorted(chosen)
        error = np.abs(np.interp(x, x[at], y[at]) - y)
        error[at] = -1
        chosen.add(int(np.argmax(error)))
    return tuple(knots[i] for i in sorted(chosen))


def fewer_entries(table: Table, least: float) -> Table:
    """The table without the entries that are at most `least` times its largest."""
    largest = max(map(abs, table.others.values()), default=0.0)
    return Table(table.usual, {t: x for t, x in table.others.items() if abs(x) > least * largest})
