"""Which task a circuit belongs to: known by its pairs, not by a name."""

import dataclasses

import pytest

from sparse_jax.circuits.applied import check_task
from sparse_jax.circuits.graph import Circuit
from sparse_jax.inputs import InputError
from sparse_jax.tasks.task_data import Counts, task_data
from tests.planted import Planted, planted_model

COUNTS = Counts(train_pairs=6, validation_pairs=4, test_pairs=4)


class Others(Planted):
    """The same task on other pairs."""

    def pairs(self, split, count, seed):
        return super().pairs(split, count, seed + 1)


def circuit_of(**about):
    return Circuit((), (), (), {}, {}, {}, about)


def test_a_task_is_known_by_its_pairs_whatever_its_name():
    model = planted_model()
    task = Planted("mine", "tests", "which digit is last")
    of_pairs = {"pairs": task_data(task, model.tokenizer, 8, COUNTS).fingerprint, "pruning": COUNTS._asdict()}
    circuit = circuit_of(task="mine", **of_pairs)
    check_task(model, circuit, task)
    check_task(model, circuit, dataclasses.replace(task, name="renamed"))
    refusal = "^task: 'mine' has other pairs than the circuit was found on .*; valid: 'mine' with the pairs"
    with pytest.raises(InputError, match=refusal):
        check_task(model, circuit, Others("mine", "tests", "which digit is last"))
    more = {**of_pairs, "pruning": COUNTS._replace(shifts=("other",))._asdict()}
    with pytest.raises(InputError, match=refusal):
        check_task(model, circuit_of(task="mine", **more), task)
    with pytest.raises(InputError, match="^pruning: without numbers of pairs"):
        check_task(model, circuit_of(**{**of_pairs, "pruning": {"seed": 0}}), task)


def test_without_a_hash_the_name_has_to_do():
    model, task = planted_model(), Planted("mine", "tests", "which digit is last")
    check_task(model, circuit_of(task="mine"), task)
    check_task(model, circuit_of(), task)
    with pytest.raises(InputError, match="^task: 'mine' is not valid; valid: 'other', which the circuit was"):
        check_task(model, circuit_of(task="other"), task)
