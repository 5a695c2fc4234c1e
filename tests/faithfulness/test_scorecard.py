"""The scorecard of a circuit that was put there by hand, figure by figure, and of another one."""

import dataclasses
import json
import math
from itertools import product

import jax
import numpy as np
import pytest

import sparse_jax as sj
from sparse_jax.circuits.graph import Node
from sparse_jax.faithfulness import again
from sparse_jax.faithfulness.intervals import mean_interval, share_interval
from sparse_jax.faithfulness.measure import measure_circuit
from sparse_jax.faithfulness.probes import Probe, Runs, losses_of
from sparse_jax.faithfulness.runs import _roles
from sparse_jax.faithfulness.scorecard import CONSTANTS, QUARTILES, ROLES
from sparse_jax.faithfulness.sets import SHARES, _by_share, _faithfulness, _greedy_incompleteness, _mean_over
from sparse_jax.inputs import InputError
from sparse_jax.tasks.own import pairs_task
from sparse_jax.tasks.pair import Pair
from tests.faithfulness.hand_made import ENDS, PAIRS, PRUNING, TASK, circuit_of, with_settings
from tests.planted import planted_gates

SHIFTED = (("full model", ""), ("circuit", "mean"))


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
        if figure.name.startswith("test: "):  # a p-value is not an estimate of anything
            assert figure.interval == (figure.interval.value, None, None) and figure.unit == "p-value"
        else:
            assert figure.interval.low <= figure.interval.value <= figure.interval.high
    assert measure_circuit(model, circuit, TASK, PAIRS) == card
    by_name = {(figure.name, figure.ablation): figure.interval for figure in card.figures}
    for share in (
        ("answers flipped by swapping the circuit's q, k, v and neurons", ""),
        ("same answer as the full model", "mean"),
        ("accuracy of the circuit, shifted split", "mean"),
    ):
        assert by_name[share] == share_interval(PAIRS, PAIRS) and by_name[share].low < 0.9
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


def test_pruning_again_finds_the_only_path_from_every_seed_and_no_backup(model, circuit, monkeypatch):
    monkeypatch.setattr(again, "SEEDS", 2)
    card = measure_circuit(model, with_settings(circuit), TASK, PAIRS, again=True)
    assert card.value("prunings from other seeds within the target on the test split", "mean") == 1
    assert card.value("nodes in common with them", "mean") == 1
    assert card.value("edges of these, geometric mean", "mean") == pytest.approx(2)
    assert card.value("backup 1, loss", "mean") > 0.5
    assert "Of prunings from other seeds, 100% reach the target on the test split." in card.verdict
    assert "Without its q, k, v and neurons no circuit reaches the target." in card.verdict
    # the last digit decides, so that the hash of a whole prompt is beyond this model
    assert card.value("control hashed, loss", "mean") > 0.3
    assert "No circuit gives arbitrary answers to its prompts (control hashed)." in card.verdict
    with pytest.raises(InputError, match="circuit: it does not say how it was found"):
        sj.scorecard(model, circuit, TASK, again=True)
    with pytest.raises(InputError, match="rounds: 0 is not valid; valid: at least 1"):
        sj.scorecard(model, with_settings(circuit), TASK, again=True, rounds=0)
    with pytest.raises(InputError, match="rounds: 3 is not valid; valid: 2, or again=True .--all."):
        sj.scorecard(model, circuit, TASK, rounds=3)


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
    found = {figure.name: figure for figure in again.pruned_again(probe, TASK)}
    figures = {name: figure.interval.value for name, figure in found.items()}
    assert figures["backup 1, loss"] <= 0.15 and figures["backup 1, edges"] == 2
    growth = "backup 1, growth of its nodes' effects once all before are gone"
    assert figures[f"{growth}: median"] > 0.3
    # by hand: neuron 5 ablated in the full model, and beside neuron 3
    gate = np.zeros((3, *probe.nodes["mlp_neuron"].shape))
    gate[[0, 2], 0, 5] = gate[1:, 0, 3] = 1
    sets = {site: np.zeros((3, *mask.shape)) for site, mask in probe.nodes.items()} | {"mlp_neuron": gate}
    alone, gone, both = losses_of(probe.margins_without(sets))
    (whole,) = losses_of(probe.margins_without({site: 0 * mask[:1] for site, mask in sets.items()}))
    (node,) = found[f"{growth}: median"].by_node
    each = (both - gone) - (alone - whole)
    assert node == "0.mlp_neuron.5"
    assert found[f"{growth}: median"].by_node[node] == pytest.approx(each.mean(), abs=1e-5)
    assert found[f"{growth}: median"].interval == pytest.approx(mean_interval(each), abs=1e-5)
    assert figures[f"{growth}: lower quartile"] == pytest.approx(figures[f"{growth}: median"])
    assert figures["backup 2, loss"] > 0.5
    # a circuit that has neither of them leaves nothing to forbid
    empty = dataclasses.replace(probe.circuit, nodes=probe.circuit.nodes[:1], edges=())
    assert probe.circuit.nodes[0].site == "mlp_in"
    bare = dataclasses.replace(probe, circuit=empty)
    settings = again.from_mapping(again.PruneConfig, PRUNING, "pruning")
    assert not list(again._backups(bare, TASK, settings, 2))
    assert not [
        name for name in rounds_of(again._backups(probe, TASK, settings, 1)) if name[:8] == "backup 2"
    ]


def rounds_of(figures):
    return [figure.name for figure in figures]


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


def test_a_gate_that_q_and_k_share_counts_once_in_the_order_of_nodes(model, circuit):
    own = tuple(dataclasses.replace(node, score=1.5) for node in circuit.nodes)
    tied = tuple(Node(0, site, 0, score=1.0) for site in "qk")
    ranked = dataclasses.replace(circuit, nodes=(*own, *tied))
    pairs = TASK.encode("test", PAIRS, 0, model.tokenizer, 8)
    assert not any(_by_share(Probe(model, ranked, pairs))[site][0].any() for site in "qk")
    told = {**circuit.provenance, "pruning": {"tied_qk": False}}
    first = tuple(Node(0, site, 0, score=2.0) for site in "qk")
    apart = dataclasses.replace(ranked, nodes=(*own, *first), provenance=told)
    (q, k) = (_by_share(Probe(model, apart, pairs))[site][0].any() for site in "qk")
    assert q != k  # one of the two is the first


def test_faithfulness_is_a_ratio_whose_ends_are_drawn_with_it(model, circuit):
    probe = Probe(model, circuit, TASK.encode("test", PAIRS, 0, model.tokenizer, 8))
    full = np.random.default_rng(0).normal(3, 1, (PAIRS, 2))
    found = next(_faithfulness(probe, probe, 0 * full, full, full / 2))
    assert found.interval == pytest.approx((0.5, 0.5, 0.5))
    same = next(_faithfulness(probe, probe, full, full, full))
    assert math.isnan(same.interval.value)


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


def test_correlations_of_kept_nodes_are_those_of_numpy_over_the_pairs_drawn(values, probe):
    """Nodes that vary in both runs, by hand; one that varies in one run alone has no correlation."""
    rng = np.random.default_rng(2)
    names = ("q", "mlp_neuron")
    shapes = {site: (1, ENDS, np.shape(probe.nodes[site])[-1]) for site in names}
    full = {site: rng.normal(size=shape) for site, shape in shapes.items()}
    pruned = {site: 0.5 * full[site] + rng.normal(size=shape) for site, shape in shapes.items()}
    pruned["q"][0, :, 1] = 7.0
    kept = {site: np.ones((1, shape[-1])) for site, shape in shapes.items()}
    given = dataclasses.replace(probe)
    vars(given)["nodes"] = kept
    found = {f.name: f for f in _roles(given, Runs({}, {"full": full, "pruned": pruned}, {}))}
    pairs = [
        (full[site][0, :, i], pruned[site][0, :, i])
        for site in names
        for i in range(shapes[site][-1])
        if (site, i) != ("q", 1)
    ]

    def pearson(rows_DxE):
        """np.corrcoef of every pair in each of D draws, all at once."""
        of_draws = np.array(pairs)[..., rows_DxE]
        a, b = (of_draws - of_draws.mean(axis=-1, keepdims=True)).swapaxes(0, 1)
        return (a * b).sum(axis=-1) / np.sqrt((a**2).sum(axis=-1) * (b**2).sum(axis=-1))

    shares = [0.25, 0.5, 0.75]
    own = [np.corrcoef(a, b)[0, 1] for a, b in pairs]
    np.testing.assert_allclose(pearson(np.arange(ENDS)[None])[:, 0], own)
    draws = rng.integers(0, PAIRS, (2000, PAIRS))
    rows_DxE = (2 * draws[..., None] + [0, 1]).reshape(len(draws), -1)
    drawn_Dx3 = np.quantile(pearson(rows_DxE), shares, axis=0).T
    low, high = np.quantile(drawn_Dx3, [0.025, 0.975], axis=0)
    expected = np.stack([np.quantile(own, shares), low, high], axis=1)
    intervals = [found[f"{ROLES}: {name}"].interval for name in QUARTILES]
    np.testing.assert_allclose([one.value for one in intervals], expected[:, 0], atol=1e-6)
    np.testing.assert_allclose(intervals, expected, atol=0.03)
    assert expected[1, 2] - expected[1, 1] > 0.1


@pytest.mark.slow
def test_a_circuit_of_edges_gets_the_figures_of_one_of_nodes(model, circuit):
    cards = [
        sj.scorecard(model, one, TASK, pairs=4)
        for one in (dataclasses.replace(circuit, edge_gated=True), circuit)
    ]
    names = [[(figure.name, figure.ablation) for figure in card.figures] for card in cards]
    assert names[0] == names[1]
