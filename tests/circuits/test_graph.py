"""A circuit survives its JSON, and what is no circuit is refused."""

import dataclasses
import json
import math

import numpy as np
import pytest

from sparse_jax.circuits.applied import calibration_of
from sparse_jax.circuits.edges import find_edges, kept_nodes
from sparse_jax.circuits.gates import only_between_open
from sparse_jax.circuits.graph import Circuit, Edge, Node, from_json, load_circuit
from sparse_jax.inputs import InputError
from sparse_jax.model import sites
from tests.planted import CONFIG, planted_gates
from tests.pruning.noisy import noisy, random_gates


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
    circuit.save(path)
    assert load_circuit(path) == circuit
    assert [p.name for p in path.parent.iterdir()] == ["planted.json"]


def test_it_says_which_model_and_task_it_is_of(circuit):
    assert (circuit.model, circuit.task) == (None, "planted")
    told = dataclasses.replace(circuit, provenance={"weights": "4e5eaf72e6c4e7ad", "model": "runs/mine"})
    assert (told.model, told.task) == ("4e5eaf72e6c4e7ad", None)


def test_its_gates_leave_exactly_its_nodes(circuit):
    gates, expected = circuit.gates(CONFIG), planted_gates()
    assert gates.keys() == expected.keys()
    for site, gate in gates.items():
        np.testing.assert_array_equal(gate, expected[site])


def test_nodes_outside_the_layers_survive_json_and_open_their_gates(circuit):
    nodes = (Node(0, "embed", 5, 0.5, 0.25), *circuit.nodes, Node(1, "final_resid", 7))
    edges = tuple(dataclasses.replace(e, source=e.source + 1, target=e.target + 1) for e in circuit.edges)
    wider = dataclasses.replace(circuit, nodes=nodes, edges=edges, sites=sites.NODE_SITES)
    assert from_json(wider.to_json()) == wider
    gates = wider.gates(CONFIG)
    np.testing.assert_array_equal(gates.pop("embed"), np.eye(8)[5])
    np.testing.assert_array_equal(gates.pop("final_resid"), np.eye(8)[7])
    for site, gate in planted_gates().items():
        np.testing.assert_array_equal(gates[site], gate)
    with pytest.raises(InputError, match="node 0.embed.5 is not in this model"):
        dataclasses.replace(wider, sites=sites.LAYER_SITES).gates(CONFIG)


@pytest.mark.parametrize("node", [Node(0, "q", 99), Node(0, "q", -1), Node(9, "q", 0), Node(0, "head", 0)])
def test_a_node_that_the_model_lacks_is_named(circuit, node):
    said = f"node {node.name} is not in this model"
    with pytest.raises(InputError, match=said):
        dataclasses.replace(circuit, nodes=(node,)).gates(CONFIG)
    with pytest.raises(InputError, match=said):
        dataclasses.replace(circuit, constants=(node,)).held(CONFIG)


def test_a_token_past_the_vocabulary_is_named(circuit):
    shifted = dataclasses.replace(circuit, calibration={"shift": {"3": 1.0, "5000": 1.0}})
    with pytest.raises(InputError, match="calibration.shift: '5000' is not valid; valid: token ids 0 to 7"):
        calibration_of(shifted, 8)
    assert calibration_of(shifted, 5001).shift[3] == 1


def test_scalars_of_numpy_are_saved_and_what_json_cannot_hold_is_named(circuit):
    scalars = dataclasses.replace(circuit, losses={"target": np.float32(0.5)}, counts={"nodes": np.int64(3)})
    plain = dataclasses.replace(circuit, losses={"target": 0.5}, counts={"nodes": 3})
    assert scalars.to_json() == plain.to_json()
    for field, value in (("losses", math.nan), ("provenance", np.zeros(2)), ("counts", object())):
        with pytest.raises(InputError, match=f"^circuit.{field}: .*; valid: finite numbers and texts"):
            dataclasses.replace(circuit, **{field: {"one": value}}).to_json()


@pytest.fixture
def gated(circuit):
    """One of the circuit's two edges is left; two of its nodes have none between them."""
    return dataclasses.replace(circuit, edges=circuit.edges[:1], edge_gated=True)


def test_a_circuit_of_gated_edges_survives_its_json(gated):
    assert from_json(gated.to_json()) == gated
    assert json.loads(gated.to_json())["version"] == 3


def test_constants_survive_json_and_are_there_by_site_nan_elsewhere(circuit):
    constants = (Node(0, "mlp_neuron", 5, mean=0.5), Node(0, "embed", 2, mean=-1.0))
    one = dataclasses.replace(circuit, constants=constants)
    assert from_json(one.to_json()) == one and not circuit.held(CONFIG)
    held = one.held(CONFIG)
    assert held["mlp_neuron"].shape == (1, 8) and held["embed"].shape == (8,)
    assert held["mlp_neuron"][0, 5] == 0.5 and held["embed"][2] == -1.0
    assert all(np.isnan(value).sum() == 7 for value in held.values())
    fields = json.loads(circuit.to_json())
    assert fields.pop("constants") == []
    assert from_json(json.dumps({**fields, "version": 2})) == circuit
    wrong = json.dumps({**fields, "constants": [{"layer": 0, "site": "q", "index": 1, "mean": None}]})
    with pytest.raises(
        InputError, match=r"circuit.constants\[0\].mean: None is not valid; valid: a finite num"
    ):
        from_json(wrong)


def test_version_1_is_a_circuit_of_nodes(circuit):
    fields = json.loads(circuit.to_json())
    assert fields.pop("edge_gated") is False
    assert from_json(json.dumps({**fields, "version": 1})) == circuit
    with pytest.raises(InputError, match="the field 'edge_gated' is missing"):
        from_json(json.dumps(fields))


def test_gated_edges_need_all_sites_and_nodes_that_are_there(gated):
    with pytest.raises(InputError, match="^circuit.sites: .* valid: with 'attn_in', if edges are gated"):
        dataclasses.replace(gated, sites=("q",))
    beyond = dataclasses.replace(gated, edges=(Edge(0, 3, 1.0),))
    with pytest.raises(InputError, match=r"^circuit.edges\[0\]: Edge\(.* valid: the numbers of two of the 3"):
        beyond.gates(CONFIG)


def test_gated_edges_are_closed_between_its_nodes_and_nowhere_else(gated):
    gates = gated.gates(CONFIG)
    assert {key: gate.shape for key, gate in gates.items() if "->" in key} == sites.edge_shapes(CONFIG)
    for site, gate in planted_gates().items():
        np.testing.assert_array_equal(gates[site], gate)
    closed = {key: np.argwhere(gate == 0).tolist() for key, gate in gates.items() if "->" in key}
    assert closed.pop("mlp_neuron->mlp_out") == [[0, 3, 1]]
    assert not any(closed.values())
    # an edge that no matrix has
    across = dataclasses.replace(gated, edges=(Edge(0, 2, 1.0),))
    with pytest.raises(InputError, match=r"no weight leads from 0.mlp_in.0 to 0.mlp_out.1"):
        across.gates(CONFIG)


def test_the_gates_it_gives_run_as_those_it_came_from():
    """Edges, nodes and gates of a whole pruning, there and back, with AbsTopK in between."""
    judge = noisy()
    found = only_between_open(random_gates(11, share=0.6, edges=True))
    nodes = kept_nodes(found, found, found, 2)
    edges = find_edges(judge.params, nodes, found)
    circuit = Circuit(nodes, edges, sites.LAYER_SITES, {}, {}, {}, {}, edge_gated=True)
    losses = judge.losses(from_json(circuit.to_json()).gates(judge.config))
    np.testing.assert_allclose(losses, judge.losses(found), atol=1e-6)
    node_only = judge.losses(dataclasses.replace(circuit, edge_gated=False).gates(judge.config))
    assert np.abs(losses - node_only).max() > 0.1


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "circuit: not JSON"),
        ("[]", "circuit: the format is not 'sparse_jax.circuit'"),
        (json.dumps({"format": "sparse_jax.circuit", "version": 9}), "circuit: version 9; valid: 1, 2, 3"),
        (json.dumps({"format": "sparse_jax.circuit", "version": 1}), "the field 'calibration' is missing"),
    ],
)
def test_what_is_no_circuit_is_refused(text, said):
    with pytest.raises(InputError, match=said):
        from_json(text)


NODE = {"layer": 0, "site": "mlp_in", "index": 0}


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("nodes", "abc", "circuit.nodes: 'abc' is not valid; valid: a list"),
        ("nodes", {"0": NODE}, "circuit.nodes: {"),
        ("nodes", [7], "circuit.nodes[0]: 7 is not valid; valid: an object"),
        ("nodes", [NODE, {"site": "q", "index": 0}], "circuit.nodes[1].layer: None is not valid"),
        ("nodes", [{"layer": 0, "index": 0}], "circuit.nodes[0].site: None is unknown"),
        (
            "nodes",
            [{**NODE, "co\nlor": 1}],
            r"circuit.nodes[0]: 'co\nlor' is not valid; valid: the fields",
        ),
        ("nodes", [{**NODE, "layer": -1}], "circuit.nodes[0].layer: -1 is not valid"),
        ("nodes", [{**NODE, "layer": True}], "circuit.nodes[0].layer: True is not valid"),
        ("nodes", [{**NODE, "index": 1.5}], "circuit.nodes[0].index: 1.5 is not valid"),
        ("nodes", [{**NODE, "index": -3}], "circuit.nodes[0].index: -3 is not valid"),
        ("nodes", [{**NODE, "site": "mlp_neurn"}], "'mlp_neurn' is unknown; did you mean 'mlp_neuron'?"),
        ("nodes", [{**NODE, "site": ["q"]}], "circuit.nodes[0].site: ['q'] is unknown"),
        ("nodes", [{**NODE, "mean": None}], "circuit.nodes[0].mean: None is not valid"),
        ("nodes", [{**NODE, "score": float("nan")}], "circuit.nodes[0].score: nan is not valid"),
        ("edges", 3, "circuit.edges: 3 is not valid; valid: a list"),
        ("edges", [[0, 1]], "circuit.edges[0]: [0, 1] is not valid; valid: [source, target, weight]"),
        ("edges", [[0, 1, 1.0], "abc"], "circuit.edges[1]: 'abc' is not valid"),
        (
            "edges",
            [[0, 3, 1.0]],
            "circuit.edges[0].target: 3 is not valid; valid: the number of one",
        ),
        ("edges", [[-1, 1, 1.0]], "circuit.edges[0].source: -1 is not valid"),
        ("edges", [[0.0, 1, 1.0]], "circuit.edges[0].source: 0.0 is not valid"),
        ("edges", [[0, 1, "2"]], "circuit.edges[0].weight: '2' is not valid"),
        ("edges", [[0, 1, 10**400]], "circuit.edges[0].weight: 1000"),
        ("sites", "q", "circuit.sites: 'q' is not valid; valid: a list"),
        ("sites", ["q", "heads"], "circuit.sites[1]: 'heads' is unknown"),
        ("sites", [{}], "circuit.sites[0]: {} is unknown"),
        ("counts", [["nodes", 3]], "circuit.counts: [['nodes', 3]] is not valid; valid: an object"),
        ("losses", None, "circuit.losses: None is not valid"),
        ("calibration", "x" * 10_000, "circuit.calibration: 'xxx"),
        ("provenance", 1, "circuit.provenance: 1 is not valid"),
        ("losses", {"target": "low"}, "circuit.losses.target: 'low' is not valid; valid: a number"),
        ("calibration", {"scale": "1"}, "circuit.calibration.scale: '1' is not valid; valid: a number"),
        ("calibration", {"shift": [0.5]}, "circuit.calibration.shift: [0.5] is not valid; valid: an obj"),
        ("calibration", {"shift": {"a": 0.5}}, "circuit.calibration.shift['a']: 0.5 is not valid"),
        ("calibration", {"shift": {"1": "a"}}, "circuit.calibration.shift['1']: 'a' is not valid"),
        ("provenance", {"pruning": None}, "circuit.provenance.pruning: None is not valid; valid: an obj"),
        ("edge_gated", 1, "circuit.edge_gated: 1 is not valid; valid: true or false"),
    ],
)
def test_a_damaged_field_is_named_in_one_short_line(circuit, tmp_path, field, value, said):
    path = tmp_path / "circuit.json"
    path.write_text(json.dumps({**json.loads(circuit.to_json()), field: value}))
    with pytest.raises(InputError) as error:
        load_circuit(path)
    message = str(error.value)
    assert message.startswith(f"{path}: circuit.") and said in message
    assert "\n" not in message and len(message) < len(str(path)) + 300


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"\xff\xfe{}", "not UTF-8"),
        (b"", "not JSON"),
        (b"\x00" * 64, "not JSON"),
        (b"[" * 200_000, "not JSON"),
        (b"9" * 5000, "not JSON"),
        (b"null", "the format is not"),
    ],
)
def test_a_foreign_file_is_named_in_one_line(tmp_path, content, said):
    path = tmp_path / "circuit.json"
    path.write_bytes(content)
    with pytest.raises(InputError) as error:
        load_circuit(path)
    message = str(error.value)
    assert message.startswith(f"{path}: circuit: {said}") and "\n" not in message


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(InputError, match="nothing.json: circuit: cannot be read"):
        load_circuit(tmp_path / "nothing.json")
