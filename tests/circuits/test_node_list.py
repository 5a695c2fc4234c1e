"""A released circuit as a list of nodes and a table of edges."""

import pytest

import sparse_jax as sj
from sparse_jax.circuits.edges import find_edges
from sparse_jax.circuits.graph import from_json
from sparse_jax.inputs import InputError
from sparse_jax.models.released import read_released

NODES = """0.mlp.act_in:4,7 0.mlp.post_act:9,2 0.mlp.resid_delta:5
1.attn.act_in:5 1.attn.q:3 1.attn.k:3
1.attn.v:6 1.attn.resid_delta:1
final_resid:1,5
"""
EDGES = """source,target,value
0.mlp.act_in:7,0.mlp.post_act:2,0.75
0.mlp.post_act:2,0.mlp.resid_delta:5,-1.5
1.attn.act_in:5,1.attn.q:3,2.5
1.attn.act_in:5,1.attn.v:6,1e-5
1.attn.v:6,1.attn.resid_delta:1,0.5
"""
NAMES = (
    "0.mlp_in.4", "0.mlp_in.7", "0.mlp_neuron.2", "0.mlp_neuron.9", "0.mlp_out.5", "1.attn_in.5", "1.q.3",
    "1.k.3", "1.v.6", "1.attn_out.1", "2.final_resid.1", "2.final_resid.5",
)  # fmt: skip


@pytest.fixture
def files(tmp_path):
    """Writes both files and gives the path of the nodes."""

    def write(nodes=NODES, edges=EDGES):
        (tmp_path / "quotes_nodes.txt").write_text(nodes)
        (tmp_path / "quotes_edges.csv").write_text(edges)
        return tmp_path / "quotes_nodes.txt"

    return write


def test_nodes_and_edges_are_those_of_the_files(files):
    path = files()
    circuit = sj.load_circuit(path)
    assert tuple(node.name for node in circuit.nodes) == NAMES
    named = {(NAMES[e.source], NAMES[e.target]): e.weight for e in circuit.edges}
    assert named == {
        ("0.mlp_in.7", "0.mlp_neuron.2"): 0.75,
        ("0.mlp_neuron.2", "0.mlp_out.5"): -1.5,
        ("1.attn_in.5", "1.q.3"): 2.5,
        ("1.attn_in.5", "1.v.6"): 1e-5,
        ("1.v.6", "1.attn_out.1"): 0.5,
    }
    assert circuit.counts == {"nodes": 12, "edges": 5}
    assert sj.load_circuit(path.with_name("quotes_edges.csv")) == circuit
    assert from_json(circuit.to_json()) == circuit


def test_it_is_drawn(files, tmp_path):
    circuit = sj.load_circuit(files())
    assert repr(circuit).startswith("Circuit(quotes in a model: 12 nodes, 5 edges")
    picture = circuit._repr_html_()
    assert picture.count("<line") == 5 and picture.count("<circle") == 12
    sj.report(circuit, tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    assert "effects, as the released viewer draws them" in page
    assert '"model":"sparse"' in page.replace(" ", "")


def test_beside_its_model_the_nodes_are_gates_and_the_last_layer_is_known(files, released):
    model = read_released(released / "sink_bigram_sparse")
    config = model.config
    nodes = f"0.mlp.act_in:{config.d_model - 1} final_resid:0"
    circuit = sj.load_circuit(files(nodes, "source,target,value\n"), model)
    assert circuit.nodes[-1].layer == config.n_layers
    gates = circuit.gates(config)
    assert gates["mlp_in"].sum() == gates["mlp_in"][0, -1] == gates["final_resid"][0] == 1
    assert find_edges(model.params, circuit.nodes, gates) == circuit.edges == ()
    with pytest.raises(InputError, match=f"0.mlp_in.{config.d_model} is not in this model"):
        sj.load_circuit(files(f"0.mlp.act_in:{config.d_model}", "source,target,value\n"), model)


@pytest.mark.parametrize(
    "nodes, edges, said",
    [
        (NODES + "2.attn.z:3", EDGES, r"nodes.txt: line 5: the site of '2.attn.z:3' is unknown"),
        (NODES + "attn.q:3", EDGES, "line 5: the site of 'attn.q:3' is unknown"),
        (NODES + "1.final_resid:3", EDGES, "line 5: the site"),
        (NODES + "1.attn.q:", EDGES, "line 5: '1.attn.q:' is not valid"),
        (NODES + "1.attn.q:3", EDGES, "the node 1.attn.q:3 appears twice"),
        (NODES, EDGES + "1.attn.q:3,1.attn.k:4,1\n", "edges.csv: line 7: '1.attn.k:4' is not in the list"),
        (NODES, EDGES + "1.attn.q:3,1.attn.k:3,1\n", "no weight leads from 1.attn.q:3 to 1.attn.k:3"),
        (NODES, EDGES + "0.mlp.post_act:2,1.attn.act_in:5,1\n", "no weight leads from"),
        (NODES, EDGES + "1.attn.act_in:5,1.attn.k:3,nan\n", "the value 'nan'"),
        (NODES, EDGES + "1.attn.act_in:5,1.attn.k:3,x\n", "the value 'x'"),
        (NODES, EDGES + "1.attn.act_in:5,1.attn.k:3\n", "line 7: 2 fields"),
        (NODES, EDGES + EDGES.splitlines()[1] + "\n", "appears twice"),
        (
            NODES,
            EDGES.replace("value", "weight"),
            "edges.csv: line 1 is not valid; valid: source,target,value",
        ),
        (NODES, "", "edges.csv: line 1"),
    ],
)
def test_what_is_wrong_is_named_with_its_line(files, nodes, edges, said):
    with pytest.raises(InputError, match=said):
        sj.load_circuit(files(nodes, edges))


def test_one_file_of_the_two_and_another_name_are_refused(files, tmp_path):
    path = files()
    (tmp_path / "quotes_edges.csv").unlink()
    with pytest.raises(InputError, match="quotes_edges.csv not found"):
        sj.load_circuit(path)
    other = path.rename(tmp_path / "list.txt")
    with pytest.raises(InputError, match="valid: NAME_nodes.txt beside NAME_edges.csv"):
        sj.load_circuit(other)
    other.write_text("nodes: none")
    with pytest.raises(InputError, match="list.txt: circuit: not JSON"):
        sj.load_circuit(other)
