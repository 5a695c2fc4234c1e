"""Which weights are edges, and how many (METHOD 7)."""

from collections.abc import Iterator

import numpy as np

from sparse_jax.circuits.gates import Gates
from sparse_jax.circuits.graph import Edge, Node
from sparse_jax.model import sites
from sparse_jax.model.config import ModelConfig
from sparse_jax.model.forward import Params
from sparse_jax.trees import Arrays

NEVER = np.iinfo(np.int32).max


def kept_nodes(gates: Gates, means: Gates, scores: Gates, n_layers: int) -> tuple[Node, ...]:
    """Every node whose gate is 1, in order of the forward pass."""
    in_layers = [(layer, site) for layer in range(n_layers) for site in sites.LAYER_SITES]
    nodes = []
    for layer, site in ((0, sites.EMBED_SITE), *in_layers, (n_layers, sites.FINAL_SITE)):
        if site not in gates:
            continue
        row = () if site in sites.UNLAYERED_SITES else (layer,)
        for index in np.flatnonzero(gates[site][row]):
            mean, score = means[site][*row, index], scores[site][*row, index]
            nodes.append(Node(layer, site, int(index), float(mean), float(score)))
    return tuple(nodes)


def find_edges(params: Params, nodes: tuple[Node, ...], gates: Gates) -> tuple[Edge, ...]:
    """The edges of `kept_weights` as data: by layer, matrix and channels. gates: of `nodes` and of edges.

    Gains of norms do not matter; biases, embedding, unembedding and q-k pairs are not edges.
    """
    number = {(node.layer, node.site, node.index): i for i, node in enumerate(nodes)}
    kernels = {target: (sublayer, matrix) for _, target, sublayer, matrix in sites.EDGE_MATRICES}
    by_layer: dict[int, list[Edge]] = {}
    for source, target, kept in kept_weights(params, gates):
        sublayer, matrix = kernels[target]
        weights = np.asarray(params["layers"][sublayer][matrix]["kernel"])
        for layer, i, j in np.argwhere(kept).tolist():
            ends = number[layer, source, i], number[layer, target, j]
            by_layer.setdefault(layer, []).append(Edge(*ends, float(weights[layer, i, j])))
    return tuple(edge for layer in sorted(by_layer) for edge in by_layer[layer])


def other_counts(
    config: ModelConfig, params: Params, nodes: tuple[Node, ...], gated: tuple[str, ...] = sites.LAYER_SITES
) -> dict[str, int]:
    """Sizes beside the edges; `gated` are the sites whose nodes were chosen.

    bias: nonzero biases of kept nodes. embedding: nonzero embedding weights (full vocabulary) into the
    residual channels that a kept node reads or, if `embed` was gated, into its kept channels. unembedding:
    nonzero unembedding weights from the channels that a kept node writes. query_key: channels kept in both q
    and k, each of which is a product.
    """
    chosen = {(node.layer, node.site, node.index) for node in nodes}
    bias = 0
    for layer in range(config.n_layers if config.bias else 0):
        for _, target, sublayer, matrix in sites.EDGE_MATRICES:
            values = np.asarray(params["layers"][sublayer][matrix]["bias"][layer])
            bias += sum((layer, target, int(i)) in chosen for i in np.flatnonzero(values))
    readers = (sites.EMBED_SITE,) if sites.EMBED_SITE in gated else sites.READER_SITES
    read = sorted({n.index for n in nodes if n.site in readers and n.index < config.d_model})
    writers = (*sites.WRITER_SITES, sites.FINAL_SITE)
    written = sorted({n.index for n in nodes if n.site in writers})
    embedding = np.asarray(params["embed"]["kernel"])
    unembedding = embedding.T if config.tied_embedding else np.asarray(params["unembed"]["kernel"])
    return {
        "bias": bias,
        "embedding": int(np.count_nonzero(embedding[:, read])),
        "unembedding": int(np.count_nonzero(unembedding[written])),
        "query_key": sum(n.site == "q" and (n.layer, "k", n.index) in chosen for n in nodes),
    }


def count_nodes(gates: Gates) -> int:
    """The number of open gates of nodes."""
    return int(sum(np.count_nonzero(gate) for key, gate in gates.items() if not sites.is_edge(key)))


def count_edges(params: Params, gates: Gates) -> int:
    """The number of nonzero weights between open nodes, without those whose own gate is closed."""
    return int(sum(np.count_nonzero(kept) for _, _, kept in kept_weights(params, gates)))


def circuit_size(params: Params, gates: Gates) -> tuple[int, int]:
    """Edges, then nodes: of two circuits the one with the lower pair is smaller."""
    return count_edges(params, gates), count_nodes(gates)


def incident_edges(params: Params, gates: Gates) -> dict[str, np.ndarray]:
    """The number of edges at each node, in the shapes of the gates; each gate of an edge counts 1."""
    found = {key: np.zeros(np.shape(gate)) for key, gate in gates.items()}
    for source, target, kept in kept_weights(params, gates):
        found[source] += kept.sum(axis=2)
        found[target] += kept.sum(axis=1)
        key = sites.edge_key(source, target)
        if key in found:
            found[key] += kept
    return found


def kept_weights(params: Params, gates: Gates) -> Iterator[tuple[str, str, np.ndarray]]:
    """(source site, target site, bool [L, Din, Dout] of its edges) for every matrix between gated sites."""
    for source, target, nonzero in _nonzero(params, gates):
        kept = nonzero & (gates[source][:, :, None] > 0) & (gates[target][:, None, :] > 0)
        key = sites.edge_key(source, target)
        yield source, target, kept & (gates[key] > 0) if key in gates else kept


def edges_by_size(params: Params, gates: Gates, ranks: Arrays, count: int) -> np.ndarray:
    """Numbers of edges [count + 1] with the first 0, 1, ... `count` ranked units open, others as `gates`."""
    opens = {}
    for key, gate in gates.items():
        rank = ranks.get(key, np.full(np.shape(gate), -1))
        opens[key] = np.where(rank >= 0, rank + 1, np.where(np.asarray(gate) > 0, 0, NEVER))
    found = np.zeros(count + 1, np.int64)
    for source, target, nonzero in _nonzero(params, gates):
        first = np.maximum(opens[source][:, :, None], opens[target][:, None, :])
        if sites.edge_key(source, target) in opens:
            first = np.maximum(first, opens[sites.edge_key(source, target)])
        first = first[nonzero]
        found += np.bincount(first[first <= count], minlength=count + 1)
    return np.cumsum(found)


def _nonzero(params: Params, gates: Gates) -> Iterator[tuple[str, str, np.ndarray]]:
    for source, target, sublayer, matrix in sites.EDGE_MATRICES:
        if source in gates and target in gates:
            yield source, target, np.asarray(params["layers"][sublayer][matrix]["kernel"]) != 0


def edges_between(config: ModelConfig, params: Params, nodes: Gates) -> dict[str, np.ndarray]:
    """1 for every edge between the given nodes (0/1 gates), else 0: the edges that may be closed.

    These are the nonzero weights between open nodes; the nodes of a site without gates are open.
    """
    eligible = {}
    for source, target, sublayer, matrix in sites.EDGE_MATRICES:
        kernel = np.asarray(params["layers"][sublayer][matrix]["kernel"])
        ends = [
            np.asarray(nodes[site], bool) if site in nodes else np.ones((config.n_layers, width), bool)
            for site, width in ((source, kernel.shape[1]), (target, kernel.shape[2]))
        ]
        between = ends[0][:, :, None] & ends[1][:, None, :]
        eligible[sites.edge_key(source, target)] = (between & (kernel != 0)).astype(np.float32)
    return eligible
