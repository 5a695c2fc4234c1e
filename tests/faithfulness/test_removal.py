"""Inverse pruning finds the sets that have to be removed where they are known."""

import dataclasses
import itertools
import math

import numpy as np
import pytest

from sparse_jax.faithfulness.known_programs import make_program
from sparse_jax.faithfulness.planted import PAIRS, Blueprint, Wire, build
from sparse_jax.faithfulness.rankings import PRUNE
from sparse_jax.faithfulness.removal import find_removals
from sparse_jax.faithfulness.wiring import either
from sparse_jax.inputs import InputError
from sparse_jax.pruning.config import PruneConfig
from sparse_jax.pruning.recipe import Recipe
from sparse_jax.pruning.store import Store
from sparse_jax.pruning.subject import Subject
from sparse_jax.tasks.metrics import binary_loss, knowledge
from sparse_jax.tasks.task_data import TaskData

TARGET = 0.1
REMOVE = dataclasses.replace(PRUNE, objective="removal", k_coef=0.01, steps=150, learning_rate=0.02)


def two_paths():
    """The letter that ends the prompt, read twice: each path alone is enough, so one node of each must go."""
    plan = Blueprint(
        channels=("one", "other", "seen", "seen_too"),
        embedding={"a": {"one": 1, "other": 1}, "b": {"one": -1, "other": -1}},
        circuit=(
            Wire(0, "mlp_neuron", "one", 0, 1.0),
            Wire(0, "mlp_out", 0, "seen", 2.0),
            Wire(0, "mlp_neuron", "other", 1, 1.0),
            Wire(0, "mlp_out", 1, "seen_too", 2.0),
        ),
        unembedding={**either("seen", "a", "b"), **either("seen_too", "a", "b")},
        biases={(0, "mlp_out", "seen"): -1.0, (0, "mlp_out", "seen_too"): -1.0},
    )
    return build("two_paths", plan, make_program("distractor").task)


def removals_of(program):
    data = TaskData(program.name, *(program.pairs(split) for split in PAIRS))
    subject = Subject(program.model, program.values, Store(None))
    return find_removals(subject, data, REMOVE, (TARGET,), label=program.name)


def loss_without(program, places):
    """The loss with these nodes alone ablated, by the judge of ordinary circuits."""
    gates = {site: np.ones_like(mask) for site, mask in program.truth.gates(program.model.config).items()}
    for layer, site, i in places:
        gates[site][layer, i] = 0
    return program.loss(gates, "test")


def test_one_node_of_each_path_goes():
    program = two_paths()
    (found,) = removals_of(program)
    places = {(node.layer, node.site, node.index) for node in found.nodes}
    paths = [
        {(0, "mlp_in", 1), (0, "mlp_neuron", 0), (0, "mlp_out", 3)},
        {(0, "mlp_in", 2), (0, "mlp_neuron", 1), (0, "mlp_out", 4)},
    ]
    assert [len(places & path) for path in paths] == [1, 1] and found.units == 2 and found.reached
    # by another road: no single node is enough, and this pair is
    assert max(loss_without(program, [place]) for place in paths[0] | paths[1]) < math.log(2) - 3 * TARGET
    assert loss_without(program, places) == pytest.approx(found.loss, abs=1e-5)
    assert found.loss >= math.log(2) - TARGET and found.knowledge <= TARGET


def test_a_single_node_goes_from_a_chain():
    program = make_program("copy")
    (found,) = removals_of(program)
    assert found.units == 1
    assert {(node.layer, node.site, node.index) for node in found.nodes} <= program.nodes


def test_knowledge_is_what_a_loss_lacks_to_chance_and_zero_for_one_answer_to_both():
    candidates = np.array([[[0, 1], [1, 0]]] * 3)
    margins = np.array([[2.0, 2.0], [30.0, -30.0], [0.5, -0.2]])  # of the right answer
    logits = np.zeros((3, 2, 2))
    for pair, member in itertools.product(range(3), range(2)):
        logits[pair, member, candidates[pair, member, 0]] = margins[pair, member]
    expected = math.log(2) - np.log1p(np.exp(-margins)).mean(axis=1)
    found = np.asarray(knowledge(logits, candidates))
    assert found == pytest.approx(np.maximum(expected, 0), abs=1e-6)
    assert found[1] == 0 and np.asarray(binary_loss(logits, candidates))[1] > 10


@pytest.mark.parametrize("name, value", [("compact", True), ("constants", True), ("role_coef", 0.1)])
def test_what_is_about_kept_nodes_is_refused(name, value):
    with pytest.raises(InputError, match=f"pruning.{name}: .*'removal'"):
        PruneConfig(objective="removal", **{name: value})


def test_a_set_to_remove_is_no_circuit():
    with pytest.raises(InputError, match=r"pruning.objective: 'removal'.*faithfulness.removal"):
        Recipe(REMOVE)
    with pytest.raises(InputError, match="pruning.objective: 'binary' is not valid; valid: 'removal'"):
        find_removals(None, None, PRUNE, (TARGET,))
