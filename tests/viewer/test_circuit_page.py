"""What is shown of a circuit: its meanings and its code belong to it, or are refused."""

import dataclasses

import pytest

from sparse_jax.inputs import InputError
from sparse_jax.viewer import drawing
from sparse_jax.viewer.circuit_page import payload_of, view


class Given:
    """Something that gives JSON, as scorecards and meanings do."""

    def __init__(self, found):
        self.found = found

    def to_json(self):
        return self.found


def meanings(circuit, task):
    one = {"said": None, "excited_by": [["a", 1.23456]], "moves": [], "answers": {"b": 2.0}, "contexts": []}
    about = {"task": task, "of": circuit.fingerprint}
    return Given({**about, "nodes": [{"node": node.name, **one} for node in circuit.nodes]})


@pytest.fixture
def named(circuit):
    """A circuit of a task, all of whose numbers can be saved."""
    nodes = tuple(dataclasses.replace(node, mean=0.5) for node in circuit.nodes)
    return dataclasses.replace(circuit, nodes=nodes, provenance={**circuit.provenance, "task": "mine"})


def test_meanings_and_code_are_with_their_circuit(named):
    (drawn,) = payload_of(named, meanings=meanings(named, "mine"), code="x = 1\n")["circuits"]
    assert drawn["code"] == "x = 1\n"
    assert set(drawn["meanings"]) == {node.name for node in named.nodes}
    found = drawn["meanings"][named.nodes[0].name]
    lists = {"excited": [["a", 1.235]], "moves": [], "answers": [["b", 2.0]], "contexts": []}
    assert found == {"said": None, **lists}
    (bare,) = payload_of(named)["circuits"]
    assert bare["code"] is None and bare["meanings"] is None


def test_traces_are_with_their_circuit(named):
    values = {node.name: [[0.123456, -2.0]] for node in named.nodes}
    traces = {"prompts": [["a", "b"]], "answers": ["c"], "circuit": values, "model": values, "task": "mine"}
    traces["of"] = named.fingerprint
    patterns = {"circuit": [[[0.5], [0.125, 0.336]]], "model": [[[1.0]]]}
    traces["heads"] = [{"layer": 0, "number": 3, "uniform": True, **patterns}]
    (drawn,) = payload_of(named, traces=Given(traces))["circuits"]
    assert drawn["traces"]["circuit"][named.nodes[0].name] == [[0.1235, -2.0]]
    percents = {"circuit": [[[50], [12, 34]]], "model": [[[100]]]}
    assert drawn["traces"]["heads"] == [{"layer": 0, "number": 3, "uniform": True, **percents}]
    assert drawn["traces"]["prompts"] == [["a", "b"]] and drawn["traces"]["answers"] == ["c"]
    with pytest.raises(InputError, match=r"^traces\[0\]: 'other' is not valid"):
        payload_of(named, traces=Given({**traces, "task": "other"}))


def test_contributions_are_with_their_circuit(named):
    names = [node.name for node in named.nodes]
    losses = {"best": [0.7, 0.123456], "in_circuit": [0.5], "in_model": [-0.25]}
    about = {"task": "mine", "of": named.fingerprint}
    found = Given({**about, "pairs": 4, "nodes": names, **losses})
    (drawn,) = payload_of(named, contributions=found)["circuits"]
    assert drawn["contributions"] == {"pairs": 4, "nodes": names, **losses, "best": [0.7, 0.1235]}
    with pytest.raises(InputError, match=r"^contributions\[0\]: 'mine' is not valid; valid: that of 'other'"):
        payload_of(dataclasses.replace(named, provenance={"task": "other"}), contributions=found)


def test_a_circuit_without_a_task_takes_that_of_what_was_found(named):
    nameless = dataclasses.replace(named, provenance={})
    (drawn,) = payload_of(nameless, meanings=meanings(nameless, "mine"))["circuits"]
    assert drawn["task"] == "mine"


def test_prunings_are_with_their_circuit_each_with_its_best_nodes(named, monkeypatch):
    nodes = [[0, "q", 5, 0.5, 0.25], [0, "k", 5, -1.0, 0.123456], [0, "v", 3, 0.0, 0.5]]
    one = {"number": 3, "parameters": {"k_coef": 0.25}, "loss": 0.123456, "nodes": nodes}
    one["edges"] = [[0, 1, 1.0], [2, 1, -2.0]]
    failed = {"number": 4, "parameters": {}, "loss": None, "nodes": [], "edges": []}
    found = Given({"task": "mine", "of": named.fingerprint, "prunings": [one, failed]})
    (drawn,) = payload_of(named, prunings=found)["circuits"]
    q, k, v = (drawing.sites.NODE_SITES.index(site) for site in "qkv")
    facts = {"number": 3, "loss": 0.1235, "facts": [["k_coef", "0.25"]], "size": {"nodes": 3, "edges": 2}}
    rows = [[0, q, 5, 0.5, 0.25], [0, k, 5, -1.0, 0.1235], [0, v, 3, 0.0, 0.5]]
    assert drawn["prunings"][0] == {**facts, "nodes": rows, "edges": [[2, 1, -2.0], [0, 1, 1.0]]}
    assert drawn["prunings"][1]["nodes"] == [] and drawn["prunings"][1]["loss"] is None
    monkeypatch.setattr(drawing, "PRUNED_NODES", 2)  # the page stays small, and says the whole size
    (drawn,) = payload_of(named, prunings=found)["circuits"]
    assert drawn["prunings"][0] == {**facts, "nodes": [rows[0], rows[2]], "edges": []}
    assert payload_of(named)["circuits"][0]["prunings"] == []


def test_a_page_of_one_circuit_holds_them(named):
    page = view(named, meanings=meanings(named, "mine"), code="forty = 42\n")
    assert "forty = 42" in page.text and "1.235" in page.text


def test_what_is_of_another_task_circuit_or_number_is_refused(named):
    other = dataclasses.replace(named, losses={**named.losses, "circuit": 0.5})
    refused = rf"^meanings\[0\]: 'of circuit {other.fingerprint}' is not valid; valid: what is of circuits"
    with pytest.raises(InputError, match=refused):
        payload_of(named, meanings=meanings(other, "mine"))
    with pytest.raises(InputError, match=r"^meanings\[0\]: 'other' is not valid; valid: that of 'mine'"):
        payload_of(named, meanings=meanings(named, "other"))
    with pytest.raises(InputError, match=r"^code: 2 is not valid; valid: none, or one for each of 1"):
        payload_of(named, code=["a", "b"])


def pruned(circuit, task, **pruning):
    facts = {"task": task, "pruning": {"steps": 3, **pruning}, "identity": str(pruning)}
    return dataclasses.replace(circuit, provenance={**circuit.provenance, **facts})


def test_circuits_of_one_task_are_told_apart_by_what_people_vary(circuit):
    by_seed = [pruned(circuit, "mine", seed=seed, learning_rate=0.1 + seed) for seed in (0, 1)]
    page = payload_of([*by_seed, pruned(circuit, "other", seed=2)])
    assert [drawn["model"] for drawn in page["circuits"]] == ["dense, seed 0", "dense, seed 1", "dense"]
    assert [row["task"] for row in page["table"]["rows"]] == ["mine", "other"]
    by_target = [pruned(circuit, "mine", target_loss=loss, seed=loss) for loss in (0.1, 0.2)]
    assert [d["model"] for d in payload_of(by_target)["circuits"]] == [
        "dense, target loss 0.1",
        "dense, target loss 0.2",
    ]
    alike = [pruned(circuit, "mine", seed=0), pruned(circuit, "mine", seed=0)]
    assert [d["model"] for d in payload_of(alike)["circuits"]] == ["dense, number 1", "dense, number 2"]
    # one that does not say, as released ones
    silent = dataclasses.replace(circuit, provenance={"task": "mine"})
    mixed = payload_of([pruned(circuit, "mine", seed=0), silent])
    assert [d["model"] for d in mixed["circuits"]] == ["dense, seed 0", "dense, seed unknown"]
    # the smallest difference that tells all of three apart
    three = [pruned(circuit, "mine", seed=seed, k_coef=k) for seed, k in ((0, 1), (0, 2), (1, 3))]
    assert [d["model"] for d in payload_of(three)["circuits"]] == [f"dense, k coef {k}" for k in (1, 2, 3)]


def test_two_tasks_of_one_name_are_refused(circuit):
    counts = {"train_pairs": 8, "validation_pairs": 4, "test_pairs": 4}
    one, other = (pruned(circuit, "mine", seed=0, **counts) for _ in range(2))
    for circuit_of, pairs in ((one, "aa"), (other, "bb")):
        circuit_of.provenance.update(weights="w", pairs=pairs)
    with pytest.raises(InputError, match=r"^circuits\[1\]: its task 'mine' has other .* of circuits\[0\]"):
        payload_of([one, other])
    # more pairs of one task have another hash, and so have the tokens of another tokenizer
    other.provenance["pruning"]["train_pairs"] = 16
    assert len(payload_of([one, other])["circuits"]) == 2
    other.provenance["pruning"]["train_pairs"] = 8
    other.provenance["weights"] = "of another model"
    assert len(payload_of([one, other])["circuits"]) == 2


def test_a_circuit_says_whether_its_model_is_sparse_also_without_a_run(named):
    told = dataclasses.replace(named, provenance={"task": "mine", "kind": "sparse", "config": {"model": {}}})
    assert payload_of(told)["circuits"][0]["model"] == "sparse"


def test_the_table_has_both_models_and_no_mean_over_tasks_that_nobody_chose(circuit):
    config = {"sparsity": {"fraction": 0.1}}
    losses = {"validation": 0.12, "circuit": 0.14, "target": 0.15}
    sparse = dataclasses.replace(circuit, losses=losses, provenance={"task": "mine", "config": config})
    dense = dataclasses.replace(sparse, provenance={"task": "mine"})
    fewer = dataclasses.replace(sparse, edges=circuit.edges[:1])
    page = payload_of([fewer, dense])
    (row,) = page["table"]["rows"]
    assert row["ratio"] == 3.0 and row["sparse"]["edges"] == 1 and row["dense"]["validation"] == 0.12
    assert row["sparse"]["reached"] is None and page["table"]["mean"]["tasks"] == []  # nobody said
    missed = dataclasses.replace(dense, provenance={"task": "mine", "reached": False})
    for pair in ([fewer, missed], [fewer], [dataclasses.replace(sparse, edges=()), dense]):
        assert payload_of(pair)["table"]["rows"][0]["ratio"] is None
