"""A circuit survives its JSON, and what is no circuit is refused."""

import json

import numpy as np
import pytest

from sparse_jax.circuits.graph import Circuit, Edge, Node, from_json, load_circuit, save_circuit
from sparse_jax.inputs import InputError
from sparse_jax.model import sites
from tests.planted import CONFIG, planted_gates


@pytest.fixture
def circuit():
    return Circuit(
        nodes=(Node(0, "mlp_in", 0, 0.25, 0.5), Node(0, "mlp_neuron", 3), Node(0, "mlp_out", 1)),
        edges=(Edge(0, 1, 2.0), Edge(1, 2, -0.1)),
        sites=sites.LAYER_SITES,
        counts={"nodes": 3, "edges": 2},
        losses={"circuit": 0.1},
        calibration={"scale": 1.0},
        provenance={"task": "planted"},
    )


def test_json_and_back_is_the_same_circuit(circuit, tmp_path):
    path = tmp_path / "circuits" / "planted.json"
    save_circuit(circuit, path)
    assert load_circuit(path) == circuit
    assert [p.name for p in path.parent.iterdir()] == ["planted.json"]


def test_its_gates_leave_exactly_its_nodes(circuit):
    gates, expected = circuit.gates(CONFIG), planted_gates()
    assert gates.keys() == expected.keys()
    for site, gate in gates.items():
        np.testing.assert_array_equal(gate, expected[site])


def test_a_node_that_the_model_lacks_is_named(circuit):
    other = Circuit(**{**vars(circuit), "nodes": (Node(0, "q", 99),)})
    with pytest.raises(InputError, match="node 0.q.99 is not in this model"):
        other.gates(CONFIG)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "circuit: not JSON"),
        ("[]", "circuit: the format is not 'sparse_jax.circuit'"),
        (json.dumps({"format": "sparse_jax.circuit", "version": 9}), "circuit: version 9; valid: 1"),
        (json.dumps({"format": "sparse_jax.circuit", "version": 1}), "the field 'calibration' is missing"),
    ],
)
def test_what_is_no_circuit_is_refused(text, said):
    with pytest.raises(InputError, match=said):
        from_json(text)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(InputError, match="nothing.json cannot be read"):
        load_circuit(tmp_path / "nothing.json")
