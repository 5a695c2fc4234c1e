"""Folds a model around a circuit into the constants of a `CompactCircuit`."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from sparse_jax.circuits.applied import carried, has_frozen_norms
from sparse_jax.circuits.compact_circuit import (
    AttentionPart,
    CompactCircuit,
    Computes,
    MlpPart,
    Reads,
    computed,
    normed,
    with_one,
)
from sparse_jax.circuits.edge_gates import gate_edges
from sparse_jax.circuits.gates import Gates, by_kind
from sparse_jax.circuits.graph import Circuit
from sparse_jax.inputs import require
from sparse_jax.model import sites
from sparse_jax.model.config import ModelConfig
from sparse_jax.model.forward import Params
from sparse_jax.model.layers import ACTIVATION, HEAD_CONSTANTS
from sparse_jax.models.model import Model


def fold(model: Model, circuit: Circuit, values: Gates, outputs: Sequence[int]) -> CompactCircuit:
    """The circuit as a small model that gives the logits of the tokens `outputs`; see `Circuit.compact`.

    values: the model's means by site, [L, N] ([N] outside the layers). Raises InputError for token ids that
    the model does not have.
    """
    config = dataclasses.replace(model.config, compute_dtype="float32")
    size = config.vocab_size
    for token in outputs:
        require(0 <= token < size, "outputs", token, f"token ids 0 to {size - 1}")
    require(len(outputs) > 0, "outputs", list(outputs), "at least one token id")
    nodes, edges = by_kind(circuit.gates(config))
    values = carried(model, circuit, values)
    params: Params = model.params
    if edges:
        closed = {key: jnp.asarray(gate) for key, gate in edges.items()}
        params, _ = gate_edges(config, params, closed, values)
    params = jax.tree.map(np.asarray, params)
    gated = {site: (gate > 0, np.asarray(values[site], np.float64)) for site, gate in nodes.items()}
    layers = [_Layer(config, params["layers"], gated, layer) for layer in range(config.n_layers)]
    embed, position = _embedded(config, params, gated)
    open_D, closed_D = _gate(gated, sites.FINAL_SITE, config.d_model)
    columns = list(outputs)
    unembed = params["embed"]["kernel"].T if config.tied_embedding else params["unembed"]["kernel"]
    return CompactCircuit(
        embed=embed,
        position=position,
        layers=tuple((layer.attention(params), layer.mlp(params)) for layer in layers),
        final=(_float(open_D), _float(closed_D)),
        final_norm=params["final_norm"],
        unembed=_float(unembed[:, columns]),
        bigram=None if config.bigram == "none" else bigram_columns(config, params, columns),
        shift=_float(params["logit_bias"][columns]),
        outputs=tuple(int(token) for token in outputs),
        config=config,
        frozen_norms=has_frozen_norms(circuit),
        circuit=circuit.fingerprint,
    )


def _float(x) -> np.ndarray:
    return np.asarray(x, np.float32)


def _gate(gated, site: str, width: int, layer: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Which nodes of a site are open, bool [N], and what the closed ones carry (0 for open ones)."""
    if site not in gated:
        return np.ones(width, bool), np.zeros(width)
    is_open, value = gated[site] if layer is None else (array[layer] for array in gated[site])
    return is_open, np.where(is_open, 0, value)


def _embedded(config: ModelConfig, params: Params, gated) -> tuple[np.ndarray, np.ndarray | None]:
    open_D, closed_D = _gate(gated, sites.EMBED_SITE, config.d_model)
    embed = _float(params["embed"]["kernel"] * open_D + closed_D)
    added = config.positions == "added"
    return embed, _float(params["position"]["kernel"] * open_D) if added else None


def require_plain_stream(config: ModelConfig) -> None:
    """Raises InputError for a model whose residual stream is not the sum of what is written to it."""
    activation = config.residual_activation
    require(activation == "identity", "model.residual_activation", activation, "'identity' for this")
    in_stream = {"resid_mid", "resid_out"} & set(config.topk_sites)
    sparse = sorted(in_stream) if config.activation_fraction is not None else []
    require(not sparse, "model.topk_sites", sparse, "a model without AbsTopK in the residual stream")


def bigram_columns(config: ModelConfig, params: Params, columns: list[int]) -> np.ndarray:
    """What the bigram table adds to the logits of some tokens after each token, [V, C]."""
    table = params["bigram"]
    if config.bigram_table_rank is None:
        return _float(table["kernel"][:, columns])
    return _float(table["current"]["kernel"] @ table["next"]["kernel"][:, columns])


@dataclasses.dataclass(frozen=True)
class _Layer:
    """One layer of the gated model, with its numbers in float64."""

    config: ModelConfig
    layers: Any
    gated: Any
    layer: int

    def gate(self, site: str) -> tuple[np.ndarray, np.ndarray]:
        return _gate(self.gated, site, sites.width(self.config, site), self.layer)

    def leaf(self, *names: str) -> np.ndarray:
        found = self.layers
        for name in names:
            found = found[name]
        return np.asarray(found[self.layer], np.float64)

    def matrix(self, sublayer: str, name: str) -> tuple[np.ndarray, np.ndarray]:
        kernel = self.leaf(sublayer, name, "kernel")
        return kernel, self.leaf(sublayer, name, "bias") if self.config.bias else np.zeros(kernel.shape[1])

    def reads(self, params: Params, site: str, sublayer: str) -> Reads:
        config = self.config
        norms = {name: leaf[self.layer] for name, leaf in self.layers[sublayer]["norm"].items()}
        positions = None
        if config.concatenates_positions:
            of_positions = {
                name: leaf[self.layer] for name, leaf in self.layers[sublayer]["position_norm"].items()
            }
            positions = np.asarray(normed(config, of_positions, params["position"]["kernel"]))
        channels = tuple(np.flatnonzero(self.gate(site)[0]).tolist())
        keep = config.kept(site)
        return Reads(norms, positions, channels, None if keep == sites.width(config, site) else keep)

    def computes(self, site: str, rows_nxN, base, activation=None) -> Computes:
        """The kept nodes of a site: rows [n, N] of their sources, and `base` [.., N], the rest."""
        kept_N = self.gate(site)[0]
        fed_N, keep = (rows_nxN != 0).any(axis=0), self.config.kept(site)
        competes_N = fed_N & ~kept_N
        alone = np.asarray(base[..., ~fed_N & ~kept_N])
        if activation is not None:
            alone = np.asarray(activation(jnp.asarray(alone, jnp.float32)))
        # zeros are never among the largest, nor are those below the `keep` largest constants
        constants = -np.sort(-np.abs(alone), axis=-1)[..., :keep]
        constants = constants[..., (constants != 0).any(axis=tuple(range(constants.ndim - 1)))]
        most = kept_N.sum() + competes_N.sum() - 1 + constants.shape[-1]
        if keep is None or most < keep:
            keep, competes_N, constants = None, np.zeros_like(kept_N), constants[..., :0]
        columns = np.concatenate([np.flatnonzero(kept_N), np.flatnonzero(competes_N)])
        nodes = tuple(np.flatnonzero(kept_N).tolist())
        return Computes(
            _float(rows_nxN[:, columns]), _float(base[..., columns]), _float(constants), nodes, keep
        )

    def write(self, site: str) -> np.ndarray:
        """[n + 1, D]: what the site's kept nodes write, and then the constants of the closed ones."""
        is_open, closed = self.gate(site)
        return _float(np.concatenate([np.eye(len(closed))[is_open], closed[None]]))

    def mlp(self, params: Params) -> MlpPart | np.ndarray:
        activation = ACTIVATION[self.config.activation]
        read_open, read_closed = self.gate("mlp_in")
        up, up_bias = self.matrix("mlp", "up")
        neurons = self.computes("mlp_neuron", up[read_open], up_bias + read_closed @ up, activation)
        neuron_open, neuron_closed = self.gate("mlp_neuron")
        down, down_bias = self.matrix("mlp", "down")
        out = self.computes("mlp_out", down[neuron_open], down_bias + neuron_closed @ down)
        write = self.write("mlp_out")
        if not out.nodes or not neurons.nodes:
            return _constant(out, write)
        return MlpPart(self.reads(params, "mlp_in", "mlp"), neurons, out, write)

    def attention(self, params: Params) -> AttentionPart | np.ndarray:
        config = self.config
        read_open, read_closed = self.gate("attn_in")
        parts = {}
        for site in ("q", "k", "v"):
            kernel, bias = self.matrix("attn", site)
            parts[site] = self.computes(site, kernel[read_open], bias + read_closed @ kernel)
        heads = sorted({node // config.d_head for part in parts.values() for node in part.nodes})
        place_q, place_k = self._score_channels(heads)
        place_v, rows, base = self._mixed_channels(heads)
        out, write = self.computes("attn_out", rows, base), self.write("attn_out")
        if not out.nodes or not heads:
            return _constant(out, write)
        sink = self.leaf("attn", "sink")[heads] if config.attention_sink else None
        return AttentionPart(
            reads=self.reads(params, "attn_in", "attn"),
            q=parts["q"],
            k=parts["k"],
            v=parts["v"],
            out=out,
            place_q=_float(place_q),
            place_k=_float(place_k),
            place_v=_float(place_v),
            sink=None if sink is None else _float(sink),
            write=write,
            heads=tuple(heads),
        )

    def _score_channels(self, heads: list[int]) -> tuple[np.ndarray, np.ndarray]:
        """`place_q` and `place_k` of AttentionPart: per head the channels open in q or k, and the constant.

        The scores of `attention_pattern` are divided by the root of the number of these channels, not of the
        head's width, so queries are scaled by their ratio.
        """
        width, (q_open, q_closed), (k_open, k_closed) = self.config.d_head, self.gate("q"), self.gate("k")
        per_head = [[c for c in _channels(h, width) if q_open[c] or k_open[c]] for h in heads]
        most = max(map(len, per_head), default=0) + 1
        places = []
        for is_open, closed in ((q_open, q_closed), (k_open, k_closed)):
            row_of = {int(channel): row for row, channel in enumerate(np.flatnonzero(is_open))}
            place = np.zeros((len(row_of) + 1, len(heads) * most))
            for number, channels in enumerate(per_head):
                for at, channel in enumerate(channels, number * most):
                    place[row_of.get(channel, -1), at] = 1 if is_open[channel] else closed[channel]
            places.append(place)
        for number, head in enumerate(heads):
            last, closed = number * most + most - 1, _channels(head, width)
            places[0][-1, last] = (q_closed[closed] * k_closed[closed])[~(q_open | k_open)[closed]].sum()
            places[1][-1, last] = 1
        return places[0] * (most / width) ** 0.5, places[1]

    def _mixed_channels(self, heads: list[int]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """`place_v`, the rows of the output matrix for its channels, and what other heads add."""
        config, width = self.config, self.config.d_head
        is_open, closed = self.gate("v")
        kernel, bias = self.matrix("attn", "out")
        constants = (closed[:, None] * kernel).reshape(config.n_heads, width, -1).sum(axis=1)
        if HEAD_CONSTANTS in self.layers["attn"]:
            constants = constants + self.leaf("attn", HEAD_CONSTANTS)
        per_head = [[c for c in _channels(h, width) if is_open[c]] for h in heads]
        most = max(map(len, per_head), default=0) + 1
        row_of = {int(channel): row for row, channel in enumerate(np.flatnonzero(is_open))}
        place = np.zeros((len(row_of) + 1, len(heads) * most))
        rows = np.zeros((len(heads) * most, kernel.shape[1]))
        for number, channels in enumerate(per_head):
            for at, channel in enumerate(channels, number * most):
                place[row_of[channel], at], rows[at] = 1, kernel[channel]
            last = number * most + most - 1
            place[-1, last], rows[last] = 1, constants[heads[number]]
        return place, rows, bias + self._other_heads(heads, constants)

    def _other_heads(self, heads: list[int], constants_HxD: np.ndarray) -> np.ndarray:
        """What heads add whose scores and values are constant, [D], or [T, D]: a sink takes a share."""
        config = self.config
        others = [head for head in range(config.n_heads) if head not in heads]
        if not config.attention_sink:
            return constants_HxD[others].sum(axis=0)
        q, k = (self.gate(site)[1].reshape(config.n_heads, -1) for site in ("q", "k"))
        score_H = (q * k).sum(axis=1)[others] * config.d_head**-0.5
        seen_Tx1 = np.arange(1, config.context + 1)[:, None]
        with np.errstate(over="ignore"):  # a sink that takes everything
            share_TxH = 1 / (1 + np.exp(self.leaf("attn", "sink")[others] - score_H) / seen_Tx1)
        added = share_TxH @ constants_HxD[others]
        return added if (added != added[0]).any() else added[0]


def _constant(out: Computes, write_nxD: np.ndarray) -> np.ndarray:
    """What a sub-layer writes that nothing feeds, [1, D], or [T, D] where it depends on the position."""
    if not out.nodes:
        return write_nxD
    positions = len(out.bias) if out.bias.ndim == 2 else 1
    nothing = jnp.zeros((1, positions, len(out.weights)))
    return _float(with_one(computed(out, nothing, jnp.arange(positions)[None]))[0] @ write_nxD)


def _channels(head: int, width: int) -> np.ndarray:
    return np.arange(head * width, (head + 1) * width)
