"""Which task a circuit belongs to: known by its pairs, not by a name; a model whose logits are calibrated."""

import dataclasses

import jax
import numpy as np
import pytest

from sparse_jax.circuits.applied import calibrated_params, check_task
from sparse_jax.circuits.calibration import Calibration
from sparse_jax.circuits.graph import Circuit
from sparse_jax.inputs import InputError
from sparse_jax.model.forward import initialize
from sparse_jax.tasks.task_data import Counts, task_data
from tests.compiled import forward
from tests.planted import CONFIG, Planted, planted_model

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


def test_pairs_are_drawn_once_for_all_that_asks_for_them():
    drawn = []

    class Counted(Planted):
        def pairs(self, split, count, seed):
            drawn.append(split)
            return super().pairs(split, count, seed)

    model, task = planted_model(), Counted("counted", "tests", "which digit is last")
    wanted = task_data(task, model.tokenizer, 8, COUNTS).fingerprint
    drawn.clear()
    circuit = circuit_of(task="counted", pairs=wanted, pruning=COUNTS._asdict())
    check_task(model, circuit, task)
    first = len(drawn)
    check_task(model, circuit, task)
    assert first > 0 and len(drawn) == first


def test_without_a_hash_the_name_has_to_do():
    model, task = planted_model(), Planted("mine", "tests", "which digit is last")
    check_task(model, circuit_of(task="mine"), task)
    check_task(model, circuit_of(), task)
    with pytest.raises(InputError, match="^task: 'mine' is not valid; valid: 'other', which the circuit was"):
        check_task(model, circuit_of(task="other"), task)


LEARNED = {"bigram": "learned"}


@pytest.mark.parametrize("changes", [{}, LEARNED, {**LEARNED, "bigram_table_rank": 3}])
def test_logits_of_calibrated_params_are_calibrated_logits(changes):
    config = dataclasses.replace(CONFIG, **changes)
    params = jax.tree.map(lambda x: x + 0.1, initialize(config, jax.random.key(0)))
    calibration = Calibration(np.float32(2.5), np.arange(8, dtype=np.float32))
    tokens = np.arange(16).reshape(2, 8) % 8
    found = forward(config, calibrated_params(params, calibration), tokens)[0]
    expected = calibration.apply(forward(config, params, tokens)[0])
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
    with pytest.raises(InputError, match=r"^model\.tied_embedding: True"):
        calibrated_params({k: v for k, v in params.items() if k != "unembed"}, calibration)
