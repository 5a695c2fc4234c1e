"""Losses of parts of a circuit: those of circuits that have these nodes, in a program with a known one."""

import dataclasses
import json

import numpy as np
import pytest

import sparse_jax as sj
from sparse_jax.circuits.graph import Node
from sparse_jax.faithfulness.known_programs import make_program
from sparse_jax.faithfulness.probes import Probe
from sparse_jax.inputs import InputError
from sparse_jax.model.hooks import Hooks
from sparse_jax.models.means import save_means
from tests.compiled import forward

PAIRS = 6


@pytest.fixture(scope="module")
def quotes(tmp_path_factory):
    program, folder = make_program("quotes"), tmp_path_factory.mktemp("quotes")
    means = {site: np.asarray(mean) for site, mean in program.values.items()}
    save_means(means, folder / "means.npz", program.model.fingerprint)
    # scores that differ, so that the order is known, and are not the order of the forward pass
    nodes = [dataclasses.replace(node, score=float(3 * i % 7)) for i, node in enumerate(program.truth.nodes)]
    used = {node.name for node in nodes}
    idle = next(
        Node(0, "v", i, score=-1.0) for i in range(program.model.config.d_attention) if f"0.v.{i}" not in used
    )
    circuit = dataclasses.replace(program.truth, nodes=(idle, *nodes), edges=(), edge_gated=False)
    circuit.save(folder / "circuit.json")
    return program, sj.load_circuit(folder / "circuit.json")


@pytest.fixture(scope="module")
def found(quotes):
    program, circuit = quotes
    return sj.contributions(program.model, circuit, program.task, pairs=np.int64(PAIRS))


def loss_of(quotes, nodes):
    """The loss of a circuit of these nodes alone, judged as circuits are."""
    program, circuit = quotes
    encoded = program.task.encode("test", PAIRS, 0, program.model.tokenizer, program.model.config.context)
    part = dataclasses.replace(circuit, nodes=tuple(nodes))
    return Probe(program.model, part, encoded).circuit_losses("mean").mean()


def test_the_best_come_first_and_each_size_is_a_circuit(quotes, found):
    scores = [node.score for node in found.nodes]
    assert scores == sorted(scores, reverse=True) and set(found.nodes) == set(quotes[1].nodes)
    expected = [loss_of(quotes, found.nodes[:k]) for k in range(len(found.nodes) + 1)]
    np.testing.assert_allclose(found.best, expected, atol=1e-5)
    # all of the program's nodes are needed, and the idle one, which comes last, is not
    np.testing.assert_allclose(found.best[:-2], np.log(2), atol=1e-4)
    assert max(found.best[-2:]) < 0.01


def test_effects_are_differences_of_losses(quotes, found):
    whole = loss_of(quotes, found.nodes)
    for number, node in enumerate(found.nodes):
        rest = [other for other in found.nodes if other is not node]
        np.testing.assert_allclose(found.in_circuit[number], loss_of(quotes, rest) - whole, atol=1e-5)


def test_effects_in_the_model_are_those_of_one_closed_gate(quotes, found):
    program, _ = quotes
    config = program.model.config
    encoded = program.task.encode("test", PAIRS, 0, program.model.tokenizer, config.context)
    prompts = encoded.flat()
    rows = np.arange(len(prompts.last))

    def loss(closed):
        gates, ablated = {}, {}
        for node in closed:
            mean = np.asarray(program.values[node.site])
            gate = np.ones_like(mean)
            gate[node.place] = 0
            gates[node.site], ablated[node.site] = gate, mean
        logits = forward(config, program.model.params, prompts.tokens, Hooks(gates, ablated))[0]
        right, wrong = (np.asarray(logits)[rows, prompts.last, token] for token in prompts.candidates.T)
        return np.logaddexp(0, wrong - right).mean()

    expected = [loss([node]) - loss([]) for node in found.nodes]
    np.testing.assert_allclose(found.in_model, expected, atol=1e-5)
    assert max(expected) > 0.1


def test_json_names_nodes_and_a_circuit_without_any_is_refused(quotes, found):
    program, circuit = quotes
    saved = json.loads(json.dumps(found.to_json()))
    assert (
        saved["nodes"] == [node.name for node in found.nodes]
        and len(saved["best"]) == len(saved["nodes"]) + 1
    )
    assert f"loss {found.best[-1]:.3f} with {len(found.nodes)} nodes" in repr(found)
    with pytest.raises(InputError, match="^circuit: 'no nodes' is not valid"):
        sj.contributions(program.model, dataclasses.replace(circuit, nodes=(), edges=()), program.task)
