"""From logits to circuits for several targets, and on to edges."""

import dataclasses

import numpy as np
import pytest

from sparse_jax.ablation.judge import Judge
from sparse_jax.circuits.edges import count_edges, count_nodes
from sparse_jax.inputs import InputError
from sparse_jax.model import sites
from sparse_jax.pruning import reduce
from sparse_jax.pruning.config import PruneConfig
from sparse_jax.pruning.discretize import Choice, Discretized
from sparse_jax.pruning.eliminate import Eliminated
from sparse_jax.pruning.lanes import Optimized, make_lanes
from sparse_jax.pruning.reduce import reduce_edges, reduce_nodes, working_lanes
from tests.planted import CONFIG as PLANTED
from tests.planted import planted_gates, planted_pairs, planted_params
from tests.pruning.noisy import CONFIG, losses_of, noisy, one_layer
from tests.pruning.test_swap import halves, with_halves


def lane(seed):
    shapes = sites.node_shapes(CONFIG, sites.LAYER_SITES)
    rng = np.random.default_rng(seed)
    return {site: rng.normal(size=shape) for site, shape in shapes.items() if site != "k"}


@pytest.mark.slow
def test_looser_targets_never_have_larger_circuits_and_sizes_are_told_before_and_after():
    lanes = [lane(0), lane(1)]
    whole = float(noisy().losses({}).mean())
    targets = (whole + 0.1, whole + 0.01, whole + 0.3, 0.001)
    found = {one.target: one for one in reduce_nodes(noisy(), lanes, targets, PruneConfig())}
    assert [found[target].target for target in targets] == list(targets)
    sizes = {target: count_edges(noisy().params, one.gates) for target, one in found.items()}
    ordered = sorted(targets[:3])
    assert sizes[ordered[0]] >= sizes[ordered[1]] >= sizes[ordered[2]]
    for target in ordered:
        one = found[target]
        assert one.reached and one.loss <= target
        assert one.loss == pytest.approx(losses_of(one.gates).mean(), abs=1e-5)
        assert one.discretized["edges"] > sizes[target]
        assert one.discretized["nodes"] > count_nodes(one.gates)
        np.testing.assert_array_equal(one.scores["k"], one.scores["q"])
    missed = found[0.001]
    assert not missed.reached and missed.loss > 0.001
    assert missed.discretized == {"nodes": count_nodes(missed.gates), "edges": sizes[0.001]}


def test_a_stricter_targets_circuit_comes_with_its_own_sizes_before_elimination(monkeypatch):
    """The looser target's ranking starts from fewer nodes here, which cannot be eliminated any further."""
    gates = {site: np.ones_like(tau) for site, tau in lane(0).items()}
    gates["k"] = gates["q"]
    fewer = {**gates, "attn_in": np.zeros_like(gates["attn_in"])}
    least = {site: np.zeros_like(gate) for site, gate in gates.items()}
    choices = [Choice(0, Discretized(g, 1, 0.1, 0.0, True), edges) for g, edges in ((gates, 70), (fewer, 40))]
    monkeypatch.setattr(reduce.LaneCurves, "best", lambda *given: choices)

    def eliminated(judge, start, removable, target, tied):
        return Eliminated(start if start is fewer else least, 0.1, 0.0)

    monkeypatch.setattr(reduce, "eliminate", eliminated)
    strict, loose = reduce_nodes(noisy(), [lane(0)], (0.2, 0.3), PruneConfig(swaps=False))
    assert count_nodes(strict.gates) == count_nodes(loose.gates) == 0
    assert strict.discretized == loose.discretized == {"nodes": count_nodes(gates), "edges": 70}


def test_a_looser_target_does_not_take_nodes_that_need_the_stricter_ones_constants():
    judge, scores = with_halves(), {site: gate for site, gate in halves().items() if site != "k"}
    nothing = {site: np.zeros_like(gate) for site, gate in halves().items()}
    stricter = reduce.Reduced(0.1, nothing, scores, {}, 0.05, 0.0, True, {"attn_in": nothing["attn_in"]})
    road = reduce._NodesRoad(judge, [scores], PruneConfig(swaps=False))
    found = road.reduce({}, stricter, 0.15)
    assert found.reached and found.loss <= 0.15 and count_nodes(found.gates) > 0
    # without constants of its own, its nodes are what the looser one starts from
    assert count_nodes(road.reduce({}, stricter._replace(constants={}), 0.15).gates) == 0


@pytest.mark.parametrize(("swaps", "edges"), [(True, 2), (False, 4)])
def test_swaps_follow_elimination_unless_they_are_not_wanted(swaps, edges):
    """Two neurons rank first that one replaces."""
    scores = {site: gate for site, gate in halves().items() if site != "k"}
    (found,) = reduce_nodes(with_halves(), [scores], (0.15,), PruneConfig(swaps=swaps))
    assert found.reached and found.loss <= 0.15
    assert count_edges(with_halves().params, found.gates) == edges


@pytest.mark.parametrize("swaps", [True, False])
def test_swaps_do_not_open_what_is_forbidden(swaps):
    scores = {site: gate for site, gate in halves().items() if site != "k"}
    prune = PruneConfig(swaps=swaps, forbidden=("0.mlp_neuron.3",))
    (found,) = reduce_nodes(with_halves(), [scores], (0.15,), prune)
    assert found.gates["mlp_neuron"][0, 3] == 0
    assert count_edges(with_halves().params, found.gates) == 4


@pytest.mark.parametrize("swaps", [True, False])
def test_circuits_of_edges_and_those_with_constants_are_swapped_too(swaps, monkeypatch):
    """Each with its own judge, and with what may be opened there."""
    asked = []

    def swapped(judge, found, eligible, target, tied):
        asked.append((bool(judge.constants), eligible is not None and any(map(sites.is_edge, eligible))))
        return found

    monkeypatch.setattr(reduce, "swap", swapped)
    gates = {site: np.asarray(gate) for site, gate in planted_gates().items()}
    scores = {site: gate for site, gate in gates.items() if site != "k"}
    (nodes,) = reduce_nodes(planted(), [scores], (0.15,), PruneConfig(swaps=swaps, constants=True))
    reduce_edges(planted(), planted_pairs(8), nodes, dataclasses.replace(PRUNE, swaps=swaps))
    assert asked == ([(False, False), (True, False), (False, True)] if swaps else [])


def test_a_circuit_without_nodes_needs_no_constants():
    scores = {site: np.asarray(gate) for site, gate in planted_gates().items() if site != "k"}
    (found,) = reduce_nodes(planted(), [scores], (5.0,), PruneConfig(constants=True))
    assert found.reached and not found.constants
    assert not any(gate.any() for gate in found.gates.values())


PRUNE = PruneConfig(steps=60, pairs_per_step=4, train_pairs=8, learning_rate=0.02, k_coef=0.01)


def planted():
    ablated = {site: np.zeros(shape, np.float32) for site, shape in sites.node_shapes(PLANTED).items()}
    return Judge(PLANTED, planted_params(), ablated, planted_pairs(8, seed=1))


def test_edges_of_a_circuit_are_gated_down_to_those_that_the_task_needs():
    # the planted circuit and neurons that read and write beside it
    gates = {site: np.asarray(gate) for site, gate in planted_gates().items()}
    for site in ("mlp_in", "mlp_neuron", "mlp_out"):
        gates[site] = np.ones_like(gates[site])
    scores = {site: gate for site, gate in gates.items() if site != "k"}
    nodes = next(reduce_nodes(planted(), [scores], (0.15,), PruneConfig()))._replace(gates=gates)
    assert count_edges(planted().params, gates) > 80
    found = reduce_edges(planted(), planted_pairs(8), nodes, PRUNE, make_lanes(PRUNE, 2))
    assert found.reached and found.loss <= 0.15
    assert count_edges(planted().params, found.gates) == 2 < found.discretized["edges"] + 1
    assert count_nodes(found.gates) == 3
    for site, gate in planted_gates().items():
        np.testing.assert_array_equal(found.gates[site], gate, err_msg=site)


def test_a_circuit_that_missed_keeps_all_its_edges():
    gates = {site: np.asarray(gate) for site, gate in planted_gates().items()}
    scores = {site: gate for site, gate in gates.items() if site != "k"}
    nodes = next(reduce_nodes(planted(), [scores], (0.15,), PruneConfig()))._replace(reached=False)
    found = reduce_edges(planted(), planted_pairs(8), nodes, PRUNE)
    assert found.gates.keys() == nodes.gates.keys() | sites.edge_shapes(PLANTED).keys()
    assert all((found.gates[key] == 1).all() for key in sites.edge_shapes(PLANTED))


def test_lanes_that_broke_down_are_left_out_unless_all_did():
    logits = {"q": np.arange(6.0).reshape(3, 1, 2)}
    found = Optimized(logits, {}, np.array([True, False, True]))
    assert [one["q"].tolist() for one in working_lanes(found)] == [[[2.0, 3.0]]]
    with pytest.raises(InputError, match="all 3 lanes broke down"):
        working_lanes(found._replace(failed=np.ones(3, bool)))


def answered_by_model(seed):
    """A judge of random pairs whose right answers are those that a noisy layer gives."""
    judge, rng = one_layer(noisy()), np.random.default_rng(seed)
    few = judge.pairs._replace(**{name: rows[:8] for name, rows in judge.pairs._asdict().items()})
    tokens = rng.integers(1, 12, few.tokens.shape).astype(np.int32)
    judge = dataclasses.replace(judge, pairs=few._replace(tokens=tokens))
    logits = np.asarray(judge.full_logits({}))
    second = np.take_along_axis(logits, judge.candidates, -1).argmax(-1)
    chosen = np.stack([second, 1 - second], -1)
    candidates = np.take_along_axis(judge.candidates, chosen, -1)
    return dataclasses.replace(judge, pairs=judge.pairs._replace(candidates=candidates))


@pytest.fixture
def curves(monkeypatch):
    """The curves of lanes that are made: once, for all targets that are asked for one after the other."""
    made = []

    class Counted(reduce.LaneCurves):
        def __init__(self, *given):
            made.append(self)
            super().__init__(*given)

    monkeypatch.setattr(reduce, "LaneCurves", Counted)
    return made


def test_what_suits_the_pairs_that_chose_it_alone_is_found_again(one_width, curves):
    judge, others = answered_by_model(0), answered_by_model(1).pairs
    # half of the fresh pairs are known, so that a part of the model is enough for all of them
    halves = (np.concatenate([own[:4], other[:4]]) for own, other in zip(judge.pairs, others))
    fresh = dataclasses.replace(judge, pairs=type(others)(*halves))
    lanes = [{site: tau[:1] for site, tau in lane(0).items()}]
    prune, target = PruneConfig(swaps=False), 1.0
    (hasty,) = reduce_nodes(judge, lanes, (target,), prune)
    assert hasty.reached and hasty.confirmation is None
    assert fresh.losses(hasty.gates).mean() > target  # else there is nothing to see here
    curves.clear()
    (found,) = reduce_nodes(judge, lanes, (target,), prune, fresh)
    assert found.reached and found.target == target and len(curves) == 1
    for one, (mean, error) in ((judge, found[4:6]), (fresh, found.confirmation)):
        losses = one.losses(found.gates)
        assert mean == pytest.approx(losses.mean(), abs=1e-6) and mean <= target
        assert error == pytest.approx(losses.std(ddof=1) / np.sqrt(len(losses)), abs=1e-6)
    # no more is kept than fresh pairs ask for: the one before missed, and this one is a local minimum
    whole = {site: np.ones_like(gate) for site, gate in found.gates.items()}
    few, more, all_edges = (count_edges(judge.params, gates) for gates in (hasty.gates, found.gates, whole))
    assert few < more < all_edges / 2


def test_what_fresh_pairs_never_confirm_misses_the_target():
    judge = planted()
    wrong = judge.pairs._replace(candidates=judge.pairs.candidates[..., ::-1])
    scores = {site: gate for site, gate in planted_gates().items() if site != "k"}
    (found,) = reduce_nodes(judge, [scores], (0.15,), PruneConfig(), dataclasses.replace(judge, pairs=wrong))
    assert not found.reached and found.target == 0.15 and found.confirmation.mean > 0.15


@pytest.mark.parametrize("passes_at", [0.10, None])
def test_between_a_target_that_fresh_pairs_miss_and_one_that_no_circuit_reaches(passes_at):
    """Targets below 0.09 are not reached, and the circuit of the lowest loss is within 0.16."""
    judge, lowest, asked = planted(), planted_gates(), []
    none = {site: 0 * gate for site, gate in lowest.items()}
    part = {site: gate.copy() for site, gate in lowest.items()}

    def reduced_to(target):
        asked.append(target)
        is_reached = target > 0.09
        gates = lowest if not is_reached else part if target == pytest.approx(passes_at) else none
        return reduce.Reduced(target, gates, {}, {}, 0.01, 0.0, is_reached)

    found = reduce._confirmed(reduced_to, 0.16, judge, judge)
    assert asked[:4] == pytest.approx([0.16, 0.08, 0.12, 0.10])
    assert found.gates is (part if passes_at else lowest) and found.reached and found.target == 0.16
    assert len(asked) == 4 if passes_at else 4 < len(asked) < 8


def test_circuits_of_edges_are_confirmed_too(monkeypatch, curves):
    """Fresh pairs are met only once the third target, the second one lowered, has been asked for."""
    asked = []

    def eliminated(judge, choice, target, scores, removable, tied_qk):
        asked.append(target)
        gates = {**removable} if len(asked) == 3 else {key: 0 * gate for key, gate in removable.items()}
        return reduce.Reduced(target, gates, scores, {}, 0.01, 0.0, True)

    scores = {site: gate for site, gate in planted_gates().items() if site != "k"}
    nodes = next(reduce_nodes(planted(), [scores], (0.15,), PruneConfig()))
    monkeypatch.setattr(reduce, "_eliminated", eliminated)
    prune = dataclasses.replace(PRUNE, swaps=False)
    curves.clear()
    found = reduce_edges(planted(), planted_pairs(8), nodes, prune, fresh=planted())
    assert len(curves) == 1
    assert found.reached and found.target == 0.15 == asked[0] > asked[1] > asked[2] > 0
    assert found.confirmation.mean <= 0.15
