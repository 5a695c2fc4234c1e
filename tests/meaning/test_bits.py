"""Circuits whose nodes are bits: programs that are made of bits lose nothing, and the step is exact."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import sparse_jax as sj
from sparse_jax.circuits.compact_circuit import Levels
from sparse_jax.circuits.folding import fold
from sparse_jax.inputs import InputError
from sparse_jax.meaning.bits import task_loss, with_levels
from tests.circuits.test_compact_circuit import USUAL, circuit_of, model_of, values_of


@pytest.fixture(scope="module")
def bits(quotes):
    program, circuit = quotes
    counts = {"train_pairs": 128, "validation_pairs": 32, "test_pairs": 64}
    return sj.binarize(program.model, circuit, program.task, steps=60, **counts)


def test_a_level_is_one_of_two_and_the_gradient_is_a_logistic_one():
    levels = Levels(*(jnp.array(x) for x in ([-1.0], [2.0], [0.5], [0.25])), own=jnp.zeros(()))
    assert levels.of(jnp.array([[0.49], [0.5], [7.0]])).tolist() == [[-1.0], [2.0], [2.0]]
    half = levels.replace(own=jnp.float32(0.25))
    assert half.of(jnp.array([0.1])).item() == pytest.approx(0.25 * 0.1 - 0.75)
    found = jax.grad(lambda x: levels.of(x).sum())(jnp.array([0.6]))
    share = 1 / (1 + np.exp(-0.1 / 0.25))
    assert found.item() == pytest.approx(3 * share * (1 - share) / 0.25, rel=1e-5)


def test_a_program_of_bits_loses_nothing(quotes, bits):
    program, circuit = quotes
    assert bits.circuit < 0.01 and bits.bits < 0.05
    pairs = program.task.encode("test", 64, 0, program.model.tokenizer, program.model.config.context)
    assert task_loss(bits.compact, pairs) == pytest.approx(bits.bits)
    assert set(bits.levels) == {node.name for node in circuit.nodes}
    # the embedding writes 1 at a double quote and 0 elsewhere
    low, high, threshold = bits.levels["0.mlp_in.1"]
    assert low < threshold < high and 0 < threshold < 1
    losses = f"{bits.bits:.3f} nats, the circuit {bits.circuit:.3f}"
    assert repr(bits) == f"Bits({len(circuit.nodes)} nodes: {losses})"


def test_levels_are_saved_with_the_compact_circuit(bits, quotes, tmp_path):
    program, _ = quotes
    bits.save(tmp_path / "bits.json")
    assert json.loads((tmp_path / "bits.json").read_text())["levels"].keys() == bits.levels.keys()
    bits.compact.save(tmp_path / "compact")
    tokens = program.pairs("test").tokens[:, 0]
    again = sj.load_compact(tmp_path / "compact")
    np.testing.assert_array_equal(again.forward(tokens), bits.compact.forward(tokens))


def test_nodes_that_keep_their_own_values_change_nothing():
    model, values = model_of(USUAL), values_of(USUAL)
    small = fold(model, circuit_of(model), values, (3, 7))
    part = small.layers[1][1].neurons
    count = len(part.nodes)
    levels = Levels(*np.random.default_rng(0).random((4, count), np.float32), own=np.float32(1))
    tokens = np.arange(7)[None] % 11
    run = jax.jit(lambda circuit: circuit.forward(tokens))
    plain = run(small)
    np.testing.assert_allclose(run(with_levels(small, {(1, 1, "neurons"): levels})), plain, atol=1e-6)
    other = run(with_levels(small, {(1, 1, "neurons"): levels.replace(own=np.float32(0))}))
    assert not np.allclose(other, plain, atol=1e-3)


def test_wrong_input_is_named(quotes):
    program, circuit = quotes
    with pytest.raises(InputError, match="^steps: 0"):
        sj.binarize(program.model, circuit, program.task, steps=0, train_pairs=4)
    frozen = dataclasses.replace(
        circuit, provenance={**circuit.provenance, "pruning": {"frozen_norms": True}}
    )
    with pytest.raises(InputError, match="^circuit: 'frozen norms'"):
        sj.binarize(program.model, frozen, program.task, train_pairs=4)
