"""What is shown of a circuit: its meanings and its code belong to it, or are refused."""

import dataclasses

import numpy as np
import pytest

from sparse_jax.inputs import InputError
from sparse_jax.pruning.trials import Outcome, Trial, Trials
from sparse_jax.viewer.circuit_page import payload_of, view


class Given:
    """Something that gives JSON, as scorecards and meanings do."""

    def __init__(self, found):
        self.found = found

    def to_json(self):
        return self.found


def meanings(circuit, task):
    one = {"said": None, "excited_by": [["a", 1.23456]], "moves": [], "answers": {"b": 2.0}, "contexts": []}
    return Given({"task": task, "nodes": [{"node": node.name, **one} for node in circuit.nodes]})


@pytest.fixture
def named(circuit):
    return dataclasses.replace(circuit, provenance={**circuit.provenance, "task": "mine"})


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
    patterns = {"circuit": [[[0.5], [0.125, 0.336]]], "model": [[[1.0]]]}
    traces["heads"] = [{"layer": 0, "number": 3, "uniform": True, **patterns}]
    (drawn,) = payload_of(named, traces=Given(traces))["circuits"]
    assert drawn["traces"]["circuit"][named.nodes[0].name] == [[0.1235, -2.0]]
    percents = {"circuit": [[[50], [12, 34]]], "model": [[[100]]]}
    assert drawn["traces"]["heads"] == [{"layer": 0, "number": 3, "uniform": True, **percents}]
    assert drawn["traces"]["prompts"] == [["a", "b"]] and drawn["traces"]["answers"] == ["c"]
    with pytest.raises(InputError, match=r"^traces\[0\]: 'other' is not valid"):
        payload_of(named, traces=Given({**traces, "task": "other"}))


def test_contributions_and_prunings_are_with_their_circuit(named, tmp_path):
    names = [node.name for node in named.nodes]
    losses = {"best": [0.7, 0.123456], "in_circuit": [0.5], "in_model": [-0.25]}
    found = Given({"task": "mine", "pairs": 4, "nodes": names, **losses})
    folder = tmp_path / "mine-0123"
    trials = Trials(folder)
    judged = Trial(0, {"k_coef": 0.25}, (Outcome(0.15, 7, 9, 0.123456), Outcome(0.3, 2, 1, 0.25)))
    target = dataclasses.replace(named, losses={"target": 0.15})
    trials.append_round([judged, Trial(1, {}, ())], {"q": np.zeros((2, 1))})  # the other was never judged
    (drawn,) = payload_of(target, contributions=found, prunings=folder)["circuits"]
    assert drawn["contributions"] == {"pairs": 4, "nodes": names, **losses, "best": [0.7, 0.1235]}
    assert drawn["prunings"] == [[0, 7, 9, 0.1235, [["k_coef", "0.25"]]]]
    assert payload_of(named)["circuits"][0]["prunings"] == []
    with pytest.raises(InputError, match=r"^contributions\[0\]: 'mine' is not valid; valid: that of 'other'"):
        payload_of(dataclasses.replace(named, provenance={"task": "other"}), contributions=found)
    with pytest.raises(InputError, match=r"^prunings\[0\]: 'mine' is not valid; valid: a search for 'other'"):
        payload_of(dataclasses.replace(named, provenance={"task": "other"}), prunings=[folder])
    with pytest.raises(InputError, match=r"^prunings\[0\]: .* valid: a folder of a search, with its trials"):
        payload_of(named, prunings=tmp_path)


def test_a_page_of_one_circuit_holds_them(named):
    page = view(named, meanings=meanings(named, "mine"), code="forty = 42\n")
    assert "forty = 42" in page.text and "1.235" in page.text


def test_what_is_of_another_task_or_number_is_refused(named):
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
    # the smallest difference that tells all of three apart
    three = [pruned(circuit, "mine", seed=seed, k_coef=k) for seed, k in ((0, 1), (0, 2), (1, 3))]
    assert [d["model"] for d in payload_of(three)["circuits"]] == [f"dense, k coef {k}" for k in (1, 2, 3)]
