"""A circuit on one prompt as an attribution graph, in the JSON that circuit-tracer and Neuronpedia open.

A node of the graph is a node of the circuit at a position, an embedded token, or a logit. The weight of a
link is the source's value times the derivative of the target by it, everything else held, norms and AbsTopK's
choice included: for all targets but attention's scores and the activation function, which are not linear,
that is the source's share of the target's value. Links to attn_out from a value node go along the pattern;
those from queries and keys say how far the pattern moves with them.
"""

import dataclasses
import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from sparse_jax.circuits.applied import circuit_hooks
from sparse_jax.circuits.folding import bigram_columns, require_plain_stream
from sparse_jax.circuits.gates import Gates, by_kind
from sparse_jax.circuits.graph import Circuit
from sparse_jax.circuits.source_text import token_texts
from sparse_jax.inputs import require
from sparse_jax.model import sites
from sparse_jax.model.forward import forward
from sparse_jax.model.layers import ACTIVATION, HEAD_CONSTANTS
from sparse_jax.models.model import Model
from sparse_jax.trees import map_named

SCHEMA_VERSION = 1
# A site and the layer of a node, its channel, and a position; "token" and "logit" are sites too.
Place = tuple[str, int, int, int]
TOKEN, LOGIT = "token", "logit"
# A layer has a row in the graph for every step of its forward pass.
_DEPTH = sites.steps_of_a_layer()
_OFFSET = min(_DEPTH[site] for site in sites.LAYER_SITES)
_STEPS = max(_DEPTH[site] for site in sites.LAYER_SITES) - _OFFSET + 1


def attribution_graph(
    model: Model,
    circuit: Circuit,
    values: Gates,
    tokens_T: Sequence[int],
    outputs: Sequence[int],
    least: float = 0.01,
) -> dict[str, Any]:
    """The graph of the paths that lead to the logits of `outputs` after the last token.

    tokens: ids of the prompt [T]. least: links below this share of all that reaches their target are left
    out. Raises InputError for a model whose norm is not RMSNorm or whose residual stream is not a sum, and
    for `least` outside of 0 to 1.
    """
    require_plain_stream(model.config)
    require(model.config.norm == "rms", "model.norm", model.config.norm, "'rms'")
    require(0 <= least < 1, "least", least, "a share, from 0 to below 1")
    require(len(tokens_T) > 0, "prompt", list(tokens_T), "at least one token")
    run = _Run(model, circuit, values, np.asarray(tokens_T, np.int32), list(outputs))
    links = dict(_walked(run, least))
    return _described(model, circuit, run, links)


def _walked(run: "_Run", least: float) -> Iterator[tuple[Place, dict[Place, float]]]:
    """From the logits back: every target with the links that lead to it."""
    waiting: list[Place] = [(LOGIT, 0, column, run.last) for column in range(len(run.outputs))]
    seen = set(waiting)
    while waiting:
        target = waiting.pop()
        found = run.sources(target)
        total = sum(map(abs, found.values()))
        kept = {place: weight for place, weight in found.items() if abs(weight) > least * total}
        yield target, kept
        new = [place for place in kept if place not in seen and place[0] != TOKEN]
        seen.update(new)
        waiting += new


class _Run:
    """The gated model on one prompt, with the values of all nodes, and what leads to each of them."""

    def __init__(
        self, model: Model, circuit: Circuit, values: Gates, tokens_T: np.ndarray, outputs: list[int]
    ):
        self.model, self.config, self.tokens, self.outputs = model, model.config, tokens_T, outputs
        self.last = len(tokens_T) - 1
        batch = jnp.asarray(tokens_T)[None]
        gated, hooks = circuit_hooks(model, circuit, values, batch)
        names = (*sites.LAYER_SITES, *sites.NORMS, sites.PATTERN, "heads")
        hooks = dataclasses.replace(hooks, capture=names)
        logits, found = jax.jit(lambda p, h: forward(self.config, p, batch, h))(gated, hooks)
        norms = {name: hooks.norms.get(name, found[name]) for name in sites.NORMS}
        arrays = {name: np.asarray(x, np.float64) for name, x in found.items()}
        self.values = {site: arrays[site][:, 0] for site in sites.LAYER_SITES}
        self.pattern, self.heads = arrays[sites.PATTERN][:, 0], arrays["heads"][:, 0]
        self.sizes = {name: np.asarray(x, np.float64)[..., 0] for name, x in norms.items()}
        self.no_constants = np.zeros((self.config.n_heads, self.config.d_model))
        self.logits = np.asarray(logits)[0, -1, outputs]
        self.params = map_named(lambda _, leaf: np.asarray(leaf, np.float64), gated)
        nodes, _ = by_kind(circuit.gates(self.config))
        shapes = sites.node_shapes(self.config, sites.LAYER_SITES)
        self.open = {site: nodes.get(site, np.ones(shape)) > 0 for site, shape in shapes.items()}
        all_open = np.ones(self.config.d_model)
        self.embed_open = nodes.get(sites.EMBED_SITE, all_open) > 0
        self.final_open = nodes.get(sites.FINAL_SITE, all_open) > 0

    def value(self, place: Place) -> float:
        """The value of a node of the circuit at a position."""
        site, layer, index, position = place
        return float(self.values[site][layer, position, index])

    def sources(self, target: Place) -> dict[Place, float]:
        """The links that lead to a node of the circuit or a logit, by source."""
        site, layer, index, position = target
        if site == LOGIT:
            return self._to_logit(index, position)
        if site in ("attn_in", "mlp_in"):
            return self._to_reader(site, layer, index, position)
        if self.value(target) == 0 and site != "mlp_neuron":
            return {}  # AbsTopK cut it
        if site == "attn_out":
            return self._to_attention(layer, index, position)
        source, _, sublayer, matrix = next(row for row in sites.EDGE_MATRICES if row[1] == site)
        gain = self._gradient(layer, index, position) if site == "mlp_neuron" else 1.0
        weights = self.params["layers"][sublayer][matrix]["kernel"][layer][:, index] * gain
        return self._linear(source, layer, position, weights)

    def _linear(self, source: str, layer: int, position: int, weights_N) -> dict[Place, float]:
        values = self.values[source][layer, position]
        chosen = np.flatnonzero(self.open[source][layer] & (weights_N != 0) & (values != 0))
        return {(source, layer, int(i), position): float(values[i] * weights_N[i]) for i in chosen}

    def _gradient(self, layer: int, index: int, position: int) -> float:
        """The derivative of a neuron by its input; 0 if AbsTopK cut it."""
        if self.values["mlp_neuron"][layer, position, index] == 0:
            return 0.0
        up = self.params["layers"]["mlp"]["up"]
        before = self.values["mlp_in"][layer, position] @ up["kernel"][layer][:, index]
        before += up["bias"][layer, index] if self.config.bias else 0.0
        return float(jax.grad(ACTIVATION[self.config.activation])(float(before)))

    def _written(
        self, channel: int, before: tuple[int, int], position: int, gain: float
    ) -> dict[Place, float]:
        """What the embedding and sub-layers before (layer, 0 or 1) write to a channel, times `gain`."""
        row = self.params["embed"]["kernel"][self.tokens[position], channel]
        found: dict[Place, float] = {}
        if row != 0 and gain != 0 and self.embed_open[channel]:
            found[TOKEN, 0, int(self.tokens[position]), position] = float(row * gain)
        for layer, step in itertools.product(range(self.config.n_layers), (0, 1)):
            site = ("attn_out", "mlp_out")[step]
            value = self.values[site][layer, position, channel]
            if (layer, step) < before and self.open[site][layer, channel] and value != 0:
                found[site, layer, channel, position] = float(value * gain)
        return found

    def _to_reader(self, site: str, layer: int, index: int, position: int) -> dict[Place, float]:
        if index >= self.config.d_model or self.value((site, layer, index, position)) == 0:
            return {}  # a position channel, or cut by AbsTopK
        sublayer = site.removesuffix("_in")
        gain = self.params["layers"][sublayer]["norm"]["scale"][layer, index]
        gain /= self.sizes[f"{sublayer}_norm"].reshape(self.config.n_layers, -1)[layer, position]
        return self._written(index, (layer, int(site == "mlp_in")), position, float(gain))

    def _to_logit(self, column: int, position: int) -> dict[Place, float]:
        params, token = self.params, self.outputs[column]
        tied = self.config.tied_embedding
        unembed = params["embed"]["kernel"][token] if tied else params["unembed"]["kernel"][:, token]
        gains = params["final_norm"]["scale"] * unembed * self.final_open
        gains = gains / self.sizes[sites.FINAL_NORM].reshape(-1)[position]
        found: dict[Place, float] = {}
        for channel in np.flatnonzero(gains):
            end = (self.config.n_layers, 0)
            for place, weight in self._written(int(channel), end, position, float(gains[channel])).items():
                found[place] = found.get(place, 0.0) + weight
        if self.config.bigram != "none":
            place = TOKEN, 0, int(self.tokens[position]), position
            own = bigram_columns(self.config, params, [token])[self.tokens[position], 0]
            found[place] = found.get(place, 0.0) + float(own)
        return found

    def _to_attention(self, layer: int, index: int, position: int) -> dict[Place, float]:
        config, width = self.config, self.config.d_head
        weights = self.params["layers"]["attn"]["out"]["kernel"][layer][:, index]
        q, k, v = (self.values[site][layer] for site in ("q", "k", "v"))
        leaves = self.params["layers"]["attn"]
        # what closed edges add is weighted by the sum of the row
        constants = leaves[HEAD_CONSTANTS][layer] if HEAD_CONSTANTS in leaves else self.no_constants
        found: dict[Place, float] = {}
        for head in range(config.n_heads):
            channels = np.arange(head * width, (head + 1) * width)
            # of closed value channels too: the pattern moves what they carry
            along = weights[channels]
            row = self.pattern[layer, head, position, : position + 1]
            for channel in channels[self.open["v"][layer, channels] & (along != 0)]:
                for place, share in enumerate(row):
                    weight = share * v[place, channel] * weights[channel]
                    if weight != 0:
                        found["v", layer, int(channel), place] = float(weight)
            # the derivative by each score: the share times what differs from the mixture
            differs = (v[: position + 1, channels] - self.heads[layer, position, channels]) @ along
            moved = row * (differs + constants[head, index] * (1 - row.sum())) * width**-0.5
            for channel in channels:
                products = moved * q[position, channel] * k[: position + 1, channel]
                if self.open["q"][layer, channel] and products.sum() != 0:
                    found["q", layer, int(channel), position] = float(products.sum())
                if self.open["k"][layer, channel]:
                    moving = np.flatnonzero(products).tolist()
                    found |= {("k", layer, int(channel), at): float(products[at]) for at in moving}
        return found


def _described(
    model: Model, circuit: Circuit, run: _Run, links: Mapping[Place, Mapping[Place, float]]
) -> dict[str, Any]:
    """The graph as JSON."""
    texts = token_texts(model.require_tokenizer(), model.config.vocab_size)
    places = sorted({*links, *(source for found in links.values() for source in found)})
    prompt = model.require_tokenizer().decode(run.tokens.tolist(), skip_special_tokens=False)
    task = str(circuit.provenance.get("task", "circuit"))
    slug = re.sub(r"[^a-z0-9]+", "-", f"{task} {model.fingerprint}".lower()).strip("-")
    return {
        "metadata": {
            "slug": slug,
            "scan": f"sparse_jax-{model.fingerprint}",
            "transcoder_list": [],
            "prompt_tokens": [texts[token] for token in run.tokens],
            "prompt": prompt,
            "schema_version": SCHEMA_VERSION,
            "info": {"description": repr(circuit), "generator": {"name": "sparse_jax"}},
        },
        "qParams": {
            "pinnedIds": [_id(run, (LOGIT, 0, column, run.last)) for column in range(len(run.outputs))],
            "supernodes": [],
            "linkType": "both",
            "clickedId": _id(run, (LOGIT, 0, 0, run.last)),
            "sg_pos": "",
        },
        "nodes": [_node(run, texts, place) for place in places],
        "links": [
            {"source": _id(run, source), "target": _id(run, target), "weight": weight}
            for target, found in links.items()
            for source, weight in found.items()
        ],
    }


def _row(run: _Run, place: Place) -> str:
    """The graph's layer: "E" for tokens, then the steps of all layers, then the logits."""
    site, layer, _, _ = place
    if site == TOKEN:
        return "E"
    if site == LOGIT:
        return str(run.config.n_layers * _STEPS)
    return str(layer * _STEPS + _DEPTH[site] - _OFFSET)


def _id(run: _Run, place: Place) -> str:
    site, _, index, position = place
    index = run.outputs[index] if site == LOGIT else index
    name = index if site in (TOKEN, LOGIT) else f"{site}.{index}"
    return f"{_row(run, place)}_{name}_{position}"


def _node(run: _Run, texts: Sequence[str], place: Place) -> dict[str, Any]:
    site, layer, index, position = place
    common = {"node_id": _id(run, place), "layer": _row(run, place), "ctx_idx": position}
    common |= {"jsNodeId": f"{_row(run, place)}_{site}.{index}-{position}", "run_idx": 0, "influence": None}
    common["reverse_ctx_idx"] = run.last - position
    if site == TOKEN:
        about = {"feature": index, "feature_type": "embedding", "clerp": texts[index], "activation": None}
        return {**common, **about}
    if site == LOGIT:
        token = run.outputs[index]
        shares = np.exp(run.logits - run.logits.max())
        share = float(shares[index] / shares.sum())
        return {
            **common,
            "feature": token,
            "feature_type": "logit",
            "clerp": f"{texts[token]!r} ({share:.3f} among the answers)",
            "token_prob": share,
            "is_target_logit": bool(index == int(np.argmax(run.logits))),
            "activation": float(run.logits[index]),
        }
    return {
        **common,
        "feature": index,
        # the name that their viewers draw circles for
        "feature_type": "cross layer transcoder",
        "clerp": f"{layer}.{site}.{index}",
        "activation": run.value(place),
    }
