"""Hard-concrete gates find a known circuit, on the same road as the step; what does not fit is refused."""

import dataclasses

import numpy as np
import pytest

from sparse_jax.circuits.gates import tie
from sparse_jax.faithfulness.known_programs import make_program
from sparse_jax.faithfulness.planted import TARGET
from sparse_jax.faithfulness.rankings import PRUNE
from sparse_jax.faithfulness.recovery import circuit_overlap, ranking_auroc
from sparse_jax.inputs import InputError
from sparse_jax.pruning.config import PruneConfig
from sparse_jax.pruning.lanes import make_lanes, optimize_gates
from sparse_jax.pruning.reduce import reduce_nodes, working_lanes

NOISY = dataclasses.replace(PRUNE, gate="hard_concrete", steps=120, learning_rate=0.02, k_coef=3e-3)


def gates_trained(program, prune, path=None):
    model, lanes = program.model, make_lanes(prune, 1)
    train = [program.pairs("train")]
    return optimize_gates(model.config, prune, model.params, program.values, train, lanes, "noisy", path)


@pytest.fixture(scope="module")
def program():
    return make_program("lookup")


@pytest.fixture(scope="module")
def found(program):
    return gates_trained(program, NOISY)


def test_they_find_the_circuit_of_a_program(program, found, one_width):
    (logits,) = working_lanes(found)
    assert ranking_auroc(program, tie(logits)) > 0.95
    assert found.history["open"][0, 0] != found.history["open"][0, -1]
    # expected numbers are no whole numbers, and never more than there are
    total = sum(tau.size for tau in tie(logits).values())
    assert found.history["open"].max() < total and (found.history["open"] % 1 > 0).any()
    reduced = next(reduce_nodes(program.judge(), [logits], (TARGET,), NOISY))
    nodes, _ = circuit_overlap(program, reduced.gates)
    assert reduced.reached and nodes.f1 == 1


def test_noise_follows_from_the_seed(program, found):
    first, again = found.history["loss"], gates_trained(program, NOISY).history["loss"]
    np.testing.assert_array_equal(first, again)
    other = gates_trained(program, dataclasses.replace(NOISY, seed=1)).history["loss"]
    assert np.abs(first - other)[:, :5].max() > 1e-4


def test_wrong_gates_are_refused():
    with pytest.raises(InputError, match=r"pruning.gate: 'hard_concret' is unknown; did you mean 'hard_conc"):
        PruneConfig(gate="hard_concret")
    with pytest.raises(InputError, match=r"pruning.compact: True.*'hard_concrete'"):
        PruneConfig(gate="hard_concrete", compact=True)
