"""Circuits as the lists that are drawn."""

import numpy as np
import pytest

from sparse_jax.circuits.graph import Edge, Node
from sparse_jax.inputs import InputError
from sparse_jax.viewer import drawing
from sparse_jax.viewer.drawing import TaskCircuit, drawings


def names(drawn, entry):
    return [f"{layer}.{drawn['sites'][site]['name']}.{index}" for layer, site, index, _, _ in entry["nodes"]]


def test_nodes_in_forward_order_and_edges_from_the_strongest(circuit):
    drawn = drawings([TaskCircuit("quotes", "sparse", circuit)])
    (entry,) = drawn["circuits"]
    assert names(drawn, entry) == ["0.mlp_in.2", "0.mlp_in.4", "0.mlp_neuron.7", "0.mlp_out.3", "1.attn_in.3"]
    assert entry["edges"] == [[0, 2, -2.0], [1, 2, 0.5], [2, 3, 0.3333]]
    assert entry["nodes"][0][3:] == [None, 0.7] and entry["nodes"][2][3:] == [-1.5, 0.5]
    assert entry["size"] == {"nodes": 5, "edges": 3}
    assert entry["losses"] == {"circuit": 0.14} and entry["counts"] == {"bias": 2}


def test_nodes_outside_the_layers_are_drawn_before_and_after_them(build_circuit):
    nodes = [Node(2, "final_resid", 1), Node(1, "q", 2), Node(0, "attn_in", 0), Node(0, "embed", 7)]
    drawn = drawings([TaskCircuit("quotes", "sparse", build_circuit(nodes, []))])
    expected = ["0.embed.7", "0.attn_in.0", "1.q.2", "2.final_resid.1"]
    assert names(drawn, drawn["circuits"][0]) == expected


def test_huge_circuits_keep_the_best_and_say_their_size(circuit, monkeypatch):
    monkeypatch.setattr(drawing, "NODE_LIMIT", 4)
    monkeypatch.setattr(drawing, "EDGE_LIMIT", 1)
    drawn = drawings([TaskCircuit("quotes", "sparse", circuit)])
    (entry,) = drawn["circuits"]
    # The neuron has the lowest score, and all its edges go with it.
    assert names(drawn, entry) == ["0.mlp_in.2", "0.mlp_in.4", "0.mlp_out.3", "1.attn_in.3"]
    assert entry["edges"] == [] and entry["size"] == {"nodes": 5, "edges": 3}
    monkeypatch.setattr(drawing, "NODE_LIMIT", 5)
    (entry,) = drawings([TaskCircuit("quotes", "sparse", circuit)])["circuits"]
    assert entry["edges"] == [[0, 2, -2.0]] and entry["size"] == {"nodes": 5, "edges": 3}


def test_exemplars_are_shared_by_the_tasks_of_a_model(circuit):
    told = {
        "0.mlp_neuron.7": [{"before": "x = ", "token": "'", "after": "a'", "value": np.float32(2.5)}],
        "0.mlp_in.2": [],
        "5.q.1": [{"before": "not", "token": "in this", "after": "circuit", "value": 1.0}],
    }
    drawn = drawings(
        [TaskCircuit(task, model, circuit, told) for task in "ab" for model in ("sparse", "dense")]
    )
    assert drawn["texts"] == ["x = ", "'", "a'"]
    assert drawn["exemplars"]["sparse"] == {"0.mlp_in.2": [], "0.mlp_neuron.7": [[0, 1, 2, 2.5]]}
    assert drawn["exemplars"]["dense"] == drawn["exemplars"]["sparse"]


def test_a_circuit_twice_is_refused(circuit):
    entry = TaskCircuit("quotes", "sparse", circuit)
    with pytest.raises(InputError, match="'sparse' appears twice for 'quotes'"):
        drawings([entry, entry])


def test_a_circuit_without_edges_or_nodes_is_drawn(build_circuit):
    empty = TaskCircuit("a", "sparse", build_circuit([], []))
    lone = TaskCircuit("b", "sparse", build_circuit([Node(0, "q", 1)], []))
    loop = TaskCircuit("c", "sparse", build_circuit([Node(0, "q", 1), Node(0, "k", 1)], [Edge(0, 1, np.nan)]))
    sizes = [(len(c["nodes"]), c["edges"]) for c in drawings([empty, lone, loop])["circuits"]]
    assert sizes == [(0, []), (1, []), (2, [[0, 1, None]])]
