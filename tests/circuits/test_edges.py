"""Nodes, edges and other counts against hand-worked models."""

import jax.numpy as jnp
import numpy as np

from sparse_jax.circuits.edges import find_edges, kept_nodes, other_counts
from sparse_jax.model import sites
from sparse_jax.model.config import ModelConfig
from sparse_jax.model.forward import param_shapes
from tests.planted import CIRCUIT, CONFIG, planted_gates, planted_params


def test_one_neuron_with_one_read_and_one_write_is_three_nodes_and_two_edges():
    params, gates = planted_params(), planted_gates()
    values = {site: np.asarray(gate) / 2 for site, gate in gates.items()}
    nodes = kept_nodes(gates, values, values, 1)
    assert [(node.site, node.index) for node in nodes] == list(CIRCUIT)
    assert nodes[0].name == "0.mlp_in.0" and nodes[0].mean == nodes[0].score == 0.5
    edges = find_edges(params, nodes, gates)
    assert [(edge.source, edge.target, edge.weight) for edge in edges] == [(0, 1, 2.0), (1, 2, 2.0)]
    assert other_counts(CONFIG, params, nodes) == {
        "bias": 1,  # mlp_out 1
        "embedding": 2,  # tokens 1 and 2 write channel 0
        "unembedding": 8,  # channel 1 to every token: 6 of noise, and the planted two
        "query_key": 0,
    }


def hand_made():
    """One layer, two channels everywhere; each matrix holds 1s where an edge is wanted."""
    config = ModelConfig(
        vocab_size=3, context=4, n_layers=2, d_model=2, d_mlp=2, d_head=2, activation_fraction=None
    )
    params = {"layers": {"attn": {}, "mlp": {}}}
    for sublayer, matrix, layer0 in (
        ("attn", "q", [[1, 0], [0, 0]]),
        ("attn", "k", [[1, 1], [0, 0]]),
        ("attn", "v", [[0, 1], [0, 1]]),
        ("attn", "out", [[1, 1], [1, 1]]),
        ("mlp", "up", [[0, 0], [1, 1]]),
        ("mlp", "down", [[0, 1], [0, 0]]),
    ):
        kernel = jnp.array([layer0, [[0, 0], [0, 0]]], jnp.float32)
        params["layers"][sublayer][matrix] = {"kernel": kernel, "bias": jnp.zeros((2, 2))}
    params["embed"] = {"kernel": jnp.zeros((3, 2))}
    params["unembed"] = {"kernel": jnp.zeros((2, 3))}
    assert set(params) < set(param_shapes(config))
    return config, params


def test_nodes_of_the_embedding_come_first_have_no_edges_and_count_its_weights():
    params = planted_params()
    gates = {**planted_gates(), "embed": np.eye(8)[0] + np.eye(8)[2], "final_resid": np.eye(8)[1]}
    values = {site: np.asarray(gate) / 4 for site, gate in gates.items()}
    nodes = kept_nodes(gates, values, values, 1)
    assert [node.name for node in nodes[:2]] == ["0.embed.0", "0.embed.2"]
    assert [(n.site, n.index) for n in nodes[2:]] == [*CIRCUIT, ("final_resid", 1)]
    assert {(node.mean, node.score) for node in nodes} == {(0.25, 0.25)}
    edges = find_edges(params, nodes, gates)
    assert [(edge.source, edge.target) for edge in edges] == [(2, 3), (3, 4)]
    counts = other_counts(CONFIG, params, nodes, tuple(gates))
    assert counts["embedding"] == 2 + 8  # channel 0 of tokens 1 and 2, and the constant in channel 2 of all
    # what the MLP reads of a channel whose gate is closed is no weight of the embedding
    assert other_counts(CONFIG, params, nodes[1:], tuple(gates))["embedding"] == 8
    assert other_counts(CONFIG, params, nodes[2:], tuple(gates))["embedding"] == 0
    # channels 0, 1 and 2 are written, and noise leads from all of them to the other six tokens
    assert counts["unembedding"] == np.count_nonzero(params["unembed"]["kernel"][:3]) == 8 + 6 + 6


def all_open(config):
    shapes = sites.node_shapes(config, sites.LAYER_SITES)
    return {site: np.ones(shape, np.float32) for site, shape in shapes.items()}


def test_every_kind_of_edge_is_counted_once():
    config, params = hand_made()
    gates = all_open(config)
    nodes = kept_nodes(gates, gates, gates, 2)
    edges = find_edges(params, nodes, gates)
    assert len(edges) == 12  # q 1, k 2, v 2, out 4, up 2, down 1
    pairs = {(nodes[edge.source].site, nodes[edge.target].site) for edge in edges}
    assert pairs == {
        ("attn_in", "q"),
        ("attn_in", "k"),
        ("attn_in", "v"),
        ("v", "attn_out"),
        ("mlp_in", "mlp_neuron"),
        ("mlp_neuron", "mlp_out"),
    }
    assert other_counts(config, params, nodes)["query_key"] == 4


def test_a_closed_edge_is_no_edge():
    config, params = hand_made()
    gates = all_open(config)
    edges = {key: np.ones(shape) for key, shape in sites.edge_shapes(config).items() if key != "attn_in->k"}
    edges["v->attn_out"][0, 0] = 0
    edges["mlp_in->mlp_neuron"][0, 0, 0] = 0  # no edge to begin with
    found = find_edges(params, kept_nodes(gates, gates, gates, 2), {**gates, **edges})
    assert len(found) == 10 and all(edge.weight == 1 for edge in found)


def test_closing_a_node_takes_its_edges():
    config, params = hand_made()
    gates = all_open(config)
    gates["v"][0, 1] = 0  # two edges into it, two out of it
    assert len(find_edges(params, kept_nodes(gates, gates, gates, 2), gates)) == 8
