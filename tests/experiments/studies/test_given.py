"""The circuits that commands are given: with their tasks, or one line that says what is wrong."""

import dataclasses
from pathlib import Path

import pytest

from experiments.studies.given import check_explained, given_circuits, names_of_results
from sparse_jax.circuits.applied import check_task
from sparse_jax.circuits.graph import load_circuit
from sparse_jax.inputs import InputError
from sparse_jax.models.formats import load_model
from sparse_jax.tasks.find import find_task

RESULTS = Path(__file__).parents[3] / "experiments" / "results"
SPARSE, DENSE = (str(RESULTS / "small" / kind) for kind in ("sparse", "dense"))
CIRCUITS = [
    str(RESULTS / "faithfulness" / "circuits" / "sparse" / "mean" / f"{name}.json")
    for name in ("for_while", "with_open")
]


def test_tasks_are_those_of_the_files_or_the_ones_that_are_given():
    model, circuits, tasks = given_circuits(SPARSE, CIRCUITS, [], check_task)
    assert [one.provenance["task"] for one in circuits] == [task.name for task in tasks]
    assert {one.provenance["weights"] for one in circuits} == {model.fingerprint}
    _, _, tasks = given_circuits(SPARSE, CIRCUITS[:1], ["for_while.hashed"], lambda *_: None)
    assert [task.name for task in tasks] == ["for_while.hashed"]
    asked = []
    given_circuits(SPARSE, CIRCUITS, [], lambda *given: asked.append(given))
    assert [circuit.task for _, circuit, _ in asked] == ["for_while", "with_open"]
    assert [task.name for _, _, task in asked] == ["for_while", "with_open"]
    assert names_of_results(CIRCUITS) == ["for_while", "with_open"]


def test_what_is_wrong_is_named(tmp_path):
    for nothing in ([], None):  # a flag that is not given is None
        with pytest.raises(InputError, match="^--circuit: .* valid: one or more files"):
            given_circuits(SPARSE, nothing, [], check_task)
        with pytest.raises(InputError, match="^--circuit: .* valid: one or more files"):
            names_of_results(nothing)
    with pytest.raises(InputError, match="^--tasks: .* valid: one for each circuit, or none"):
        given_circuits(SPARSE, CIRCUITS, ["for_while"], check_task)
    own = dict(load_circuit(CIRCUITS[0]).provenance, task="pairs")
    path = str(tmp_path / "own.json")
    dataclasses.replace(load_circuit(CIRCUITS[0]), provenance=own).save(path)
    with pytest.raises(InputError, match=f"^{path}: task: 'pairs' is unknown; .*, or any task by --tasks$"):
        given_circuits(SPARSE, [path], [], check_task)
    with pytest.raises(InputError, match="^circuit: it belongs to model"):
        given_circuits(DENSE, CIRCUITS, [], check_task)
    with pytest.raises(InputError, match=f"^{CIRCUITS[1]}: task: 'for_while' has other pairs than"):
        given_circuits(SPARSE, CIRCUITS, ["for_while", "for_while"], check_task)
    with pytest.raises(InputError, match="^--circuit: .* valid: files with different names"):
        names_of_results([CIRCUITS[0], "elsewhere/for_while.json"])


def test_a_circuit_that_a_report_cannot_take_is_refused_with_one():
    model = load_model(DENSE)
    found = load_circuit(RESULTS / "faithfulness" / "circuits" / "dense" / "mean" / "while_return_true.json")
    losses = {name: loss for name, loss in found.losses.items() if name != "target"}
    circuit, task = dataclasses.replace(found, losses=losses), find_task("while_return_true")
    check_explained(model, circuit, task, reported=False)
    with pytest.raises(InputError, match="^circuit: it has no target loss"):
        check_explained(model, circuit, task, reported=True)
    empty = dataclasses.replace(circuit, nodes=(), edges=())
    check_explained(model, empty, task, reported=True)  # it has no scorecard
