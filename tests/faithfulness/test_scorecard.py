"""The scorecard of a circuit that was put there by hand, figure by figure, and of another one."""

import dataclasses
import json
from itertools import product

import jax
import numpy as np
import pytest

import sparse_jax as sj
from sparse_jax.circuits.applied import values_hash
from sparse_jax.circuits.edges import find_edges, kept_nodes
from sparse_jax.circuits.graph import Circuit, Node, load_circuit
from sparse_jax.faithfulness import again
from sparse_jax.faithfulness.measure import measure_circuit
from sparse_jax.faithfulness.probes import Probe, inner, losses_of, matched_sets
from sparse_jax.faithfulness.scorecard import CONSTANTS
from sparse_jax.faithfulness.sets import SHARES, _by_share, _greedy_incompleteness, _mean_over
from sparse_jax.inputs import InputError
from sparse_jax.model import sites
from sparse_jax.model.hooks import Hooks, Patch
from sparse_jax.models.means import save_means
from sparse_jax.tasks.own import pairs_task
from sparse_jax.tasks.pair import Pair
from tests.compiled import forward
from tests.planted import CONFIG, Planted, planted_gates, planted_model

# equally many in all tests, so that one program serves them; each has two prompts
PAIRS, ENDS = 16, 32
SHIFTED = (("full model", ""), ("circuit", "mean"))
TASK = Planted("planted", "tests", "which digit is last")


@pytest.fixture(scope="module")
def model():
    return planted_model()


@pytest.fixture(scope="module")
def values(model):
    tokens = jax.random.randint(jax.random.key(0), (16, 8), 0, 8)
    captured = forward(CONFIG, model.params, tokens, Hooks(capture=sites.NODE_SITES))[1]
    return {site: np.asarray(x.mean(axis=(-3, -2))) for site, x in captured.items()}


def circuit_of(model, values, gates, folder):
    """A circuit of these gates, as if it had been found, with its ablation values beside it."""
    gates = {site: np.asarray(gate, np.float32) for site, gate in gates.items()}
    nodes = kept_nodes(gates, values, gates, 1)
    edges = find_edges(model.params, nodes, gates)
    kept = {site: value for site, value in values.items() if site != "embed"}
    save_means(kept, folder / "means.npz", model.fingerprint)
    about = {"weights": model.fingerprint, "values": values_hash(kept), "task": "planted"}
    circuit = Circuit(nodes, edges, sites.LAYER_SITES, {"edges": len(edges)}, {"target": 0.15}, {}, about)
    circuit.save(folder / "circuit.json")
    return load_circuit(folder / "circuit.json")


@pytest.fixture(scope="module")
def circuit(model, values, tmp_path_factory):
    return circuit_of(model, values, planted_gates(), tmp_path_factory.mktemp("planted"))


@pytest.fixture(scope="module")
def probe(model, circuit):
    return Probe(model, circuit, TASK.encode("test", PAIRS, 0, model.tokenizer, 8))


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


def test_the_planted_circuit_is_sufficient_necessary_and_decisive(model, circuit, tmp_path):
    card = measure_circuit(model, circuit, TASK, PAIRS)
    assert card.value("loss of the circuit", "mean") == pytest.approx(
        sj.score(model, TASK, circuit=circuit, pairs=16).loss, abs=1e-6
    )
    assert card.value("faithfulness of the logit difference", "mean") == pytest.approx(1, abs=0.2)
    assert card.value("answers flipped by swapping the circuit's q, k, v and neurons") == 1
    assert card.value("answers flipped by swapping all other q, k, v and neurons") == 0
    assert card.value("random sets that do less harm", "mean") == 1
    assert card.value("random circuits that are worse", "mean") == 1
    assert card.value("nodes that matter more than 9 in 10 added at random", "mean") == 1
    assert card.value("same answer as the full model", "mean") == 1
    for name in (
        "the model with kept nodes as in the circuit",
        "the circuit with kept nodes as in the model",
    ):
        assert card.value(f"unexplained variance of {name}", "mean") < 0.05
    for split in ("shifted", "other"):
        assert [card.value(f"accuracy of the {one}, {split} split", how) for one, how in SHIFTED] == [1, 1]
    assert card.value("test: better than 9 in 10 random circuits", "mean") < 0.01
    assert card.verdict[0].startswith("Sufficient under mean, zero, resample")
    assert card.verdict[1].startswith("An adversary") and "does not break it" in card.verdict[1]
    assert any(said.startswith("Necessary") for said in card.verdict)
    assert card.verdict[-2].startswith("Decisive")
    assert held_in(card) == () and card.value("nodes that only hold a constant", "mean") == 0
    assert card.verdict[-1].startswith("Ablation from training text was not measured (vocab_size: 8")
    for figure in card.figures:
        assert figure.interval.low <= figure.interval.value <= figure.interval.high
    assert measure_circuit(model, circuit, TASK, PAIRS) == card
    card.save(tmp_path / "card.json")
    written = json.loads((tmp_path / "card.json").read_text(), parse_constant=pytest.fail)
    assert written["verdict"] == list(card.verdict) and len(written["figures"]) == len(card.figures)
    assert "<table>" in card._repr_html_() and "Decisive" in repr(card)


def held_in(card):
    """The nodes that only hold a constant."""
    return next(figure.nodes for figure in card.figures if figure.name == CONSTANTS)


def test_kinds_of_shift_that_the_circuit_was_trained_on_are_named(model, circuit):
    about = {**circuit.provenance, "pruning": {"shifts": ["other"]}}
    card = measure_circuit(model, dataclasses.replace(circuit, provenance=about), TASK, PAIRS)
    names = [figure.name for figure in card.figures if figure.name.startswith("accuracy")]
    assert names == [
        "accuracy of the full model, shifted split",
        "accuracy of the circuit, shifted split",
        "accuracy of the full model, other split",
        "accuracy of the circuit, other split (trained on)",
    ]


@pytest.mark.slow
def test_a_task_without_shifted_splits_has_no_figure_of_them(model, circuit):
    pairs = [Pair(start + "1", start + "2", "4", "5") for start in map("".join, product("67", repeat=6))]
    task = pairs_task(pairs, "planted")
    card = measure_circuit(model, circuit, task, 4)
    assert card.value("loss of the circuit", "mean") < 0.2
    assert not [figure.name for figure in card.figures if "split" in figure.name]


def test_another_circuit_is_none_of_that(model, values, tmp_path):
    gates = {site: np.zeros(gate.shape) for site, gate in planted_gates().items()}
    gates["mlp_neuron"][0, 5] = 1
    card = measure_circuit(model, circuit_of(model, values, gates, tmp_path), TASK, PAIRS)
    assert card.verdict[0] == "Not sufficient under any ablation."
    assert any(said.startswith("Not shown to be necessary") for said in card.verdict)
    assert any(said.startswith("Answers follow its values in 0%") for said in card.verdict)
    # a node that does nothing can as well hold a constant
    assert held_in(card) == ("0.mlp_neuron.5",)
    assert "Nodes that only hold a constant: 1 (0.mlp_neuron.5)." in card.verdict


def test_wrong_input_is_named(model, circuit, values, tmp_path):
    other = dataclasses.replace(model, params=jax.tree.map(lambda x: 2 * x, model.params))
    with pytest.raises(InputError, match="circuit: it belongs to model"):
        sj.scorecard(other, circuit, TASK)
    with pytest.raises(InputError, match="task: 'for_while' is not valid; valid: 'planted'"):
        sj.scorecard(model, circuit, "for_while")
    with pytest.raises(InputError, match="pairs: 1 is not valid; valid: at least 2"):
        sj.scorecard(model, circuit, TASK, pairs=1)
    empty = dataclasses.replace(circuit, nodes=(), edges=())
    with pytest.raises(InputError, match="circuit: 'no nodes' is not valid"):
        sj.scorecard(model, empty, TASK)
    every = {site: np.ones(gate.shape) for site, gate in planted_gates().items()}
    whole = circuit_of(model, values, every, tmp_path)
    with pytest.raises(InputError, match="ablation: 'adversarial' is not valid; .*no gate is closed"):
        sj.score(model, TASK, circuit=whole, ablation="adversarial", pairs=4)
    with pytest.raises(InputError, match="circuit: 'all nodes' is not valid"):
        sj.scorecard(model, whole, TASK, pairs=4)


def test_faithfulness_is_integrated_over_the_share_of_nodes_the_circuits_first(model, circuit):
    probe = Probe(model, circuit, TASK.encode("test", PAIRS, 0, model.tokenizer, 8))
    gates = _by_share(probe)
    total = sum(gate[0].size for gate in gates.values())
    opened = np.array([sum(gate[row].sum() for gate in gates.values()) for row in range(len(SHARES))])
    # q and k share gates; at least one is open
    assert opened[-1] == total and (np.diff(opened) >= 0).all() and opened[0] >= 1
    some = int(np.flatnonzero(opened <= 3)[-1])
    assert opened[some] > 1
    for site, gate in gates.items():
        assert not (gate[some] > probe.nodes[site]).any()
    # by hand: 1 everywhere has an area of 1; x has the mean of its ends
    for x in (SHARES, np.log(SHARES)):
        assert _mean_over(x, np.asarray, np.ones(len(x))) == pytest.approx(1)
        assert _mean_over(x, np.asarray, x) == pytest.approx((x[0] + x[-1]) / 2)
    card = measure_circuit(model, circuit, TASK, PAIRS)
    margins = probe.margins(gates).mean(axis=(1, 2))
    empty, full = (mean_margin(probe, kept) for kept in (0.0, 1.0))
    faithful = (margins - empty) / (full - empty)
    for name, values in (("CPR", faithful), ("CMD", abs(1 - faithful))):
        area = np.sum((values[1:] + values[:-1]) / 2 * np.diff(SHARES)) / (SHARES[-1] - SHARES[0])
        assert card.value(f"{name} over the share of nodes", "mean") == pytest.approx(area, abs=1e-5)


def mean_margin(probe, kept):
    """The mean margin with all gates at this value."""
    return probe.margins({site: np.full((1, *gate.shape), kept) for site, gate in probe.nodes.items()}).mean()


def test_a_part_of_the_only_path_breaks_both_and_a_part_of_nothing_only_the_model_stays_whole(
    model, values, probe, tmp_path
):
    rng = np.random.default_rng(0)
    assert abs(_greedy_incompleteness(probe, probe.nodes, rng).interval.value) < 0.2
    gates = {site: np.zeros(gate.shape) for site, gate in planted_gates().items()}
    gates["mlp_neuron"][0, 5] = 1
    other = Probe(model, circuit_of(model, values, gates, tmp_path), probe.pairs)
    found = _greedy_incompleteness(other, other.nodes, rng).interval
    without = {site: 1 - np.asarray(gate, np.float32)[None] for site, gate in gates.items()}
    expected = np.abs((other.margins({s: 0 * m for s, m in without.items()}) - other.margins(without)).mean())
    assert found.value == pytest.approx(expected, abs=1e-5) and found.value > 1


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


@pytest.mark.slow
def test_a_circuit_of_edges_gets_the_figures_of_one_of_nodes(model, circuit):
    cards = [
        sj.scorecard(model, one, TASK, pairs=4)
        for one in (dataclasses.replace(circuit, edge_gated=True), circuit)
    ]
    names = [[(figure.name, figure.ablation) for figure in card.figures] for card in cards]
    assert names[0] == names[1]


PRUNING = {
    "steps": 100,
    "pairs_per_step": 4,
    "train_pairs": 8,
    "validation_pairs": 8,
    "test_pairs": 8,
    "learning_rate": 0.008,
    "k_coef": 0.01,
}


def with_settings(circuit):
    return dataclasses.replace(circuit, provenance={**circuit.provenance, "pruning": PRUNING})


def test_pruning_again_finds_the_only_path_from_every_seed_and_no_backup(model, circuit, monkeypatch):
    monkeypatch.setattr(again, "SEEDS", 2)
    card = measure_circuit(model, with_settings(circuit), TASK, PAIRS, again=True)
    assert card.value("prunings from other seeds within the target on the test split", "mean") == 1
    assert card.value("nodes in common with them", "mean") == 1
    assert card.value("edges of these, geometric mean", "mean") == pytest.approx(2)
    assert card.value("backup 1, loss", "mean") > 0.5
    assert "Of prunings from other seeds, 100% reach the target on the test split." in card.verdict
    assert "Without its q, k, v and neurons no circuit reaches the target." in card.verdict
    with pytest.raises(InputError, match="circuit: it does not say how it was found"):
        sj.scorecard(model, circuit, TASK, again=True)


@pytest.mark.parametrize(("told", "swaps"), [({}, False), ({"swaps": True}, True)])
def test_a_circuit_of_before_there_were_swaps_is_pruned_again_without(probe, told, swaps, monkeypatch):
    about = {**probe.circuit.provenance, "pruning": {**PRUNING, **told}}
    probe = dataclasses.replace(probe, circuit=dataclasses.replace(probe.circuit, provenance=about))
    monkeypatch.setattr(again, "_figures", lambda probe, task, settings: settings)
    assert again.pruned_again(probe, TASK).swaps is swaps


def test_a_second_neuron_that_does_the_same_is_found_as_a_backup(
    model, values, circuit, tmp_path, monkeypatch
):
    """Neuron 5 reads and writes what neuron 3 does, so it matters once that one is gone."""
    monkeypatch.setattr(again, "SEEDS", 1)
    mlp = model.params["layers"]["mlp"]
    up = {name: x.at[..., 5].set(x[..., 3]) for name, x in mlp["up"].items()}
    down = {**mlp["down"], "kernel": mlp["down"]["kernel"].at[:, 5].set(mlp["down"]["kernel"][:, 3])}
    layers = {**model.params["layers"], "mlp": {**mlp, "up": up, "down": down}}
    twice = dataclasses.replace(model, params={**model.params, "layers": layers})
    probe = Probe(
        twice,
        with_settings(circuit_of(twice, values, planted_gates(), tmp_path)),
        TASK.encode("test", PAIRS, 0, model.tokenizer, 8),
    )
    figures = {figure.name: figure.interval.value for figure in again.pruned_again(probe, TASK)}
    assert figures["backup 1, loss"] <= 0.15 and figures["backup 1, edges"] == 2
    assert figures["growth of a backup node's effect once the circuit is gone (median, quartiles)"] > 0.3
    assert figures["backup 2, loss"] > 0.5
    # a circuit that has neither of them leaves nothing to forbid
    empty = dataclasses.replace(probe.circuit, nodes=probe.circuit.nodes[:1], edges=())
    assert probe.circuit.nodes[0].site == "mlp_in"
    bare = dataclasses.replace(probe, circuit=empty)
    assert not list(again._backups(bare, TASK, again.from_mapping(again.PruneConfig, PRUNING, "pruning")))
