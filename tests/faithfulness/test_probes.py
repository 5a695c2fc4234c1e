"""What the scorecard is made of: losses, exchanges and constants, against hooks that are written out."""

import dataclasses

import jax
import numpy as np
import pytest

from sparse_jax.ablation import compiled
from sparse_jax.ablation.adversary import How
from sparse_jax.ablation.judged import circuit_judge
from sparse_jax.circuits.graph import Node
from sparse_jax.faithfulness.probes import Probe, inner, losses_of, matched_sets
from sparse_jax.faithfulness.runs import constants
from sparse_jax.model import sites
from sparse_jax.model.hooks import Hooks, Patch
from tests.compiled import forward
from tests.faithfulness.hand_made import ENDS, PAIRS, TASK
from tests.planted import CONFIG


def test_losses_without_nodes_are_those_of_the_gates_written_out(model, values, probe):
    own = {site: np.stack([gate, 0 * gate]) for site, gate in probe.nodes.items()}
    found = losses_of(probe.margins_without(own))
    tokens, last = probe.pairs.tokens.reshape(ENDS, -1), probe.pairs.last.reshape(ENDS)
    gates = {site: 1 - gate for site, gate in probe.nodes.items()}
    ablated = {site: values[site] for site in gates}
    for row, hooks in zip(found, (Hooks(gates, ablated), Hooks())):
        logits = np.asarray(forward(CONFIG, model.params, tokens, hooks)[0])[np.arange(ENDS), last]
        right, wrong = logits[np.arange(ENDS)[:, None], probe.pairs.candidates.reshape(ENDS, 2)].T
        np.testing.assert_allclose(
            row, np.log1p(np.exp(wrong - right)).reshape(PAIRS, 2).mean(axis=1), atol=1e-5
        )
    assert found[0].mean() > 0.6 and found[1].mean() < 0.15


def test_the_full_model_is_run_by_the_program_of_the_circuit(model, probe):
    program = compiled.logits(How(CONFIG))
    own = probe.circuit_logits()
    before = program._cache_size()
    tokens, last = probe.pairs.tokens.reshape(ENDS, -1), probe.pairs.last.reshape(ENDS)
    expected = np.asarray(forward(CONFIG, model.params, tokens)[0])[np.arange(ENDS), last]
    full = Probe(model, probe.circuit, probe.pairs).full_logits
    assert program._cache_size() == before > 0 and np.abs(full - own).max() > 1e-3
    np.testing.assert_allclose(full.reshape(ENDS, -1), expected, atol=1e-5)


def test_swapped_values_are_those_of_the_other_member(model, probe):
    """Members of equal length here, so that every position takes its own value of the other."""
    tokens = probe.pairs.tokens.reshape(ENDS, -1)
    other = np.arange(ENDS) ^ 1
    values = forward(CONFIG, model.params, tokens, Hooks(capture=("mlp_neuron",)))[1]["mlp_neuron"]
    mask = probe.nodes["mlp_neuron"][:, None, None] > 0
    patch = Patch(np.broadcast_to(mask, values.shape), values[:, other])
    logits = np.asarray(forward(CONFIG, model.params, tokens, Hooks(patches={"mlp_neuron": patch}))[0])
    two = logits[np.arange(ENDS), probe.pairs.last.ravel()][
        np.arange(ENDS)[:, None], probe.pairs.candidates.reshape(ENDS, 2)
    ]
    found = probe.swapped_margins(inner(probe.nodes))
    np.testing.assert_allclose(found.ravel(), two[:, 0] - two[:, 1], atol=1e-5)
    assert (found < 0).all() and (probe.swapped_margins(inner(probe.nodes, inverted=True)) > 0).all()


def test_before_the_shorter_member_begins_nothing_is_swapped(model, circuit):
    pairs = TASK.encode("test", PAIRS, 0, model.tokenizer, 8)
    # the second member begins one token later
    tokens = pairs.tokens.copy()
    tokens[:, 1, :2], tokens[:, 1, 2:] = pairs.tokens[:, 1, 1:3], 0
    last = pairs.last - np.array([0, 1])
    probe = Probe(model, circuit, pairs._replace(tokens=tokens, last=last))
    assert (probe.swapped_margins(inner(probe.nodes)) < 0).all()


def test_each_run_takes_the_others_values_at_kept_nodes(model, values, probe):
    """By hand, with a patch a site; answers are told by the logits of the first member's two tokens."""
    tokens, last = probe.pairs.tokens.reshape(ENDS, -1), probe.pairs.last.ravel()
    gates = {site: np.asarray(gate, np.float32) for site, gate in probe.nodes.items()}
    ablated = {site: values[site] for site in gates}
    first = np.repeat(probe.pairs.candidates[:, 0], 2, axis=0)

    def run(hooks):
        hooks = dataclasses.replace(hooks, capture=(*gates, sites.PATTERN))
        logits, captured = jax.device_get(forward(CONFIG, model.params, tokens, hooks))
        right, wrong = logits[np.arange(ENDS), last][np.arange(ENDS)[:, None], first].T
        return right - wrong, captured

    def taking(captured):
        return {site: Patch(gate[:, None, None] > 0, captured[site]) for site, gate in gates.items()}

    full, of_full = run(Hooks())
    pruned, of_pruned = run(Hooks(gates, ablated))
    expected = {
        "full": full,
        "pruned": pruned,
        "into full": run(Hooks(patches=taking(of_pruned)))[0],
        "into pruned": run(Hooks(gates, ablated, patches=taking(of_full)))[0],
    }
    found = probe.runs()
    assert np.abs(full - pruned).max() > 1e-3
    for name, margins in expected.items():
        np.testing.assert_allclose(found.margins[name], margins, atol=1e-4, err_msg=name)
    for name, captured in (("full", of_full), ("pruned", of_pruned)):
        for site in gates:
            np.testing.assert_allclose(
                found.values[name][site], captured[site][:, np.arange(ENDS), last], atol=1e-5
            )
        np.testing.assert_allclose(
            found.patterns[name],
            captured[sites.PATTERN][:, np.arange(ENDS), :, last].swapaxes(0, 1),
            atol=1e-5,
        )


def test_losses_of_margins_and_many_sets(probe):
    """More sets than a call takes; each as alone."""
    rng = np.random.default_rng(0)
    many = {site: (rng.random((70, *gate.shape)) < 0.5) * 1.0 for site, gate in probe.nodes.items()}
    margins = probe.margins(many)
    assert margins.shape == (70, PAIRS, 2)
    for row in (0, 31, 32, 69):
        alone = probe.margins({site: gate[row : row + 1] for site, gate in many.items()})
        np.testing.assert_allclose(margins[row], alone[0], atol=1e-5)
    np.testing.assert_allclose(losses_of(np.array([[0.0, 0.0], [2.0, -1.0]])), [np.log(2), 0.7201], atol=1e-4)


def test_random_sets_have_as_many_nodes_of_every_site_and_none_of_the_circuit(probe):
    sets = matched_sets(probe.nodes, 20, seed=3)
    for site, gate in probe.nodes.items():
        free = np.minimum(gate.sum(axis=-1), (1 - gate).sum(axis=-1))
        np.testing.assert_array_equal(sets[site].sum(axis=-1), np.broadcast_to(free, (20, *free.shape)))
        assert not (sets[site] * gate).any()
    assert len({one.tobytes() for one in sets["mlp_neuron"]}) > 3


def test_constants_are_means_over_the_prompts_of_the_circuits_own_values(model, values, probe):
    """By hand: the mean over tokens up to each prompt's end, or at the ends, patched in."""
    tokens, last = probe.pairs.tokens.reshape(ENDS, -1), probe.pairs.last.ravel()
    gates = {site: np.asarray(gate, np.float32) for site, gate in probe.nodes.items()}
    hooks = Hooks(gates, {site: values[site] for site in gates}, capture=("mlp_neuron",))
    own = np.asarray(forward(CONFIG, model.params, tokens, hooks)[1]["mlp_neuron"])[0]
    every, ends = (averages["mlp_neuron"][0] for averages in probe.own_averages)
    held = np.mean([own[row, place] for row in range(ENDS) for place in range(last[row] + 1)], axis=0)
    np.testing.assert_allclose(every, held, atol=1e-5)
    np.testing.assert_allclose(ends, own[np.arange(ENDS), last].mean(axis=0), atol=1e-5)
    masks = {site: np.zeros((2, *gate.shape), bool) for site, gate in gates.items()}
    masks["mlp_neuron"][1, 0, 3] = True
    found = probe.constant_margins(masks, probe.own_averages[0])
    patch = {"mlp_neuron": Patch(masks["mlp_neuron"][1][:, None, None], held[None, None, None])}
    for row, patches in enumerate(({}, patch)):
        hooks = Hooks(gates, {site: values[site] for site in gates}, patches=patches)
        logits = np.asarray(forward(CONFIG, model.params, tokens, hooks)[0])[np.arange(ENDS), last]
        right, wrong = logits[np.arange(ENDS)[:, None], probe.pairs.candidates.reshape(ENDS, 2)].T
        np.testing.assert_allclose(found[row].ravel(), right - wrong, atol=1e-4)
    assert losses_of(found[0]).mean() < 0.15 and losses_of(found[1]).mean() > 0.6


@pytest.mark.slow
def test_a_circuits_constants_are_kept_in_parts_of_it_and_not_in_other_sets(model, circuit, values):
    """What neuron 5 writes to channel 1 decides here, and its constant is far from its mean."""
    node = Node(0, "mlp_out", 1, mean=9.0)
    others = tuple(one for one in circuit.nodes if one.site != "mlp_out")
    held = dataclasses.replace(circuit, nodes=others, constants=(node,))
    probe = Probe(model, held, TASK.encode("test", PAIRS, 0, model.tokenizer, 8))
    gates = {site: np.asarray(gate, np.float32)[None] for site, gate in probe.nodes.items()}
    tokens, last = probe.pairs.tokens.reshape(ENDS, -1), probe.pairs.last.ravel()
    for keeps, value in ((True, 9.0), (False, values["mlp_out"][0, 1])):
        ablated = {site: np.array(values[site]) for site in gates}
        ablated["mlp_out"][0, 1] = value
        hooks = Hooks({site: gate[0] for site, gate in gates.items()}, ablated)
        logits = np.asarray(forward(CONFIG, model.params, tokens, hooks)[0])[np.arange(ENDS), last]
        right, wrong = logits[np.arange(ENDS)[:, None], probe.pairs.candidates.reshape(ENDS, 2)].T
        np.testing.assert_allclose(probe.margins(gates, held=keeps).ravel(), right - wrong, atol=1e-4)
    # under every kind of ablation the constant makes the answer 4; resampled, it is sometimes 5
    free = dataclasses.replace(probe, circuit=dataclasses.replace(held, constants=()))
    for kind in ("mean", "zero", "resample", "resample_position", "stochastic", "adversarial"):
        logits = probe.circuit_logits(kind)
        assert (logits[..., 4] > logits[..., 5]).all(), kind
    logits = free.circuit_logits("resample")
    assert 0 < (logits[..., 4] > logits[..., 5]).sum() < ENDS


@pytest.mark.parametrize("kind", ["resample", "stochastic", "adversarial_shared"])
def test_a_circuit_of_edges_is_run_under_every_kind_of_ablation(model, circuit, kind):
    pairs = TASK.encode("test", PAIRS, 0, model.tokenizer, 8)
    whole = dataclasses.replace(circuit, edge_gated=True)
    broken = dataclasses.replace(whole, edges=whole.edges[:1])
    nodes, edges, without = (
        Probe(model, one, pairs).circuit_logits(kind) for one in (circuit, whole, broken)
    )
    # all weights between its nodes are its edges, so gates on them change nothing
    np.testing.assert_allclose(edges, nodes, atol=1e-4)
    assert np.abs(without - nodes).max() > 0.3


@pytest.mark.parametrize("kind", ["resample", "stochastic"])
def test_losses_of_several_draws_are_by_draw_and_pair(model, circuit, probe, kind):
    """By the pair that each of the judge's items names; of a part of the circuit, so that draws differ."""
    part = dataclasses.replace(circuit, nodes=circuit.nodes[:1], edges=())
    judge = circuit_judge(model, part, probe.pairs, kind, draws=3)
    losses = judge.losses(part.gates(CONFIG))
    found = dataclasses.replace(probe, circuit=part).circuit_losses(kind, 3)
    assert found.shape == (3, PAIRS)
    for pair in range(PAIRS):
        np.testing.assert_allclose(found[:, pair], losses[judge.items.pair == pair], atol=1e-5)
    assert np.ptp(found, axis=0).max() > 1e-2 and np.ptp(found, axis=1).max() > 1e-2


def test_without_nodes_in_the_layers_none_holds_a_constant(probe):
    empty = dataclasses.replace(probe.circuit, nodes=(), edges=())
    assert not list(constants(dataclasses.replace(probe, circuit=empty), 0.15, 0))
