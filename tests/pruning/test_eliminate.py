"""What is left keeps the target and is a local minimum; a planted circuit is found to the last node."""

import dataclasses

import numpy as np
import pytest

from sparse_jax import progress
from sparse_jax.ablation.judge import Judge
from sparse_jax.circuits.edges import count_edges, count_nodes
from sparse_jax.circuits.gates import close, only_between_open
from sparse_jax.model import sites
from sparse_jax.pruning import eliminate as module
from sparse_jax.pruning.discretize import discretize
from sparse_jax.pruning.eliminate import eliminate
from tests.planted import CONFIG as PLANTED
from tests.planted import planted_gates, planted_pairs, planted_params
from tests.pruning.noisy import PAIRS, losses_of, noisy, random_gates


def loss_without(gates, key, place):
    """The loss with one gate less, and that of the channel's other half where q and k are tied."""
    chosen = {name: np.zeros(gate.shape, bool) for name, gate in gates.items()}
    for name in ("q", "k") if key in ("q", "k") else (key,):
        chosen[name][tuple(place)] = True
    return losses_of(close(gates, chosen)).mean()


def check_local_minimum(found, start, target):
    assert losses_of(found.gates).mean() <= target
    assert found.loss == pytest.approx(losses_of(found.gates).mean(), abs=1e-5)
    tried = 0
    for key, gate in found.gates.items():
        if not sites.is_edge(key):
            assert (gate <= start[key]).all()
        for place in np.argwhere(gate * only_between_open({**found.gates, key: 0 * gate})[key] == 0):
            if gate[tuple(place)]:
                tried += 1
                assert loss_without(found.gates, key, place) > target - 1e-6, (key, place)
    return tried


@pytest.mark.parametrize("many", [128, 4])
def test_no_single_node_more_can_go(many, monkeypatch):
    monkeypatch.setattr(module, "MANY", many)
    start = random_gates(6)
    target = float(losses_of(start).mean()) + 0.3
    found = eliminate(noisy(), start, start, target)
    assert count_nodes(found.gates) < count_nodes(start) - 5
    np.testing.assert_array_equal(found.gates["q"], found.gates["k"])
    tried = check_local_minimum(found, start, target)
    assert tried == count_nodes(found.gates) > 0
    assert found.standard_error == pytest.approx(losses_of(found.gates).std(ddof=1) / PAIRS**0.5, abs=1e-5)


class Table:
    """A judge of the neurons A, B, C and D of the noisy model's first layer, with losses written by hand."""

    label, together = "", 1

    def __init__(self, **losses):
        self.given, self.asked = losses, []

    @property
    def params(self):
        return noisy().params

    def losses(self, gates):
        left = "".join(name for name, gate in zip("ABCD", gates["mlp_neuron"][0]) if gate > 0)
        return np.array([self.given.get(left, 1.0)])

    def variants(self, gates, ranks, closed_Cx2, limit):
        self.asked.append(len(closed_Cx2))
        chosen = [{key: (a <= r) & (r < b) for key, r in ranks.items()} for a, b in closed_Cx2]
        return np.array([self.losses(close(gates, some)) for some in chosen]).reshape(-1, 1)

    def bound(self, losses_CxM):
        return losses_CxM.mean(axis=1)

    def summary(self, losses_M):
        return losses_M.mean(), 0.0

    def hardest_first(self, losses_M):
        return self, losses_M


def four_neurons():
    gates = {site: np.zeros_like(gate) for site, gate in random_gates(0).items()}
    gates["mlp_neuron"][0, :4] = 1
    return gates


def test_what_was_needed_is_tried_again_once_something_else_has_gone():
    """C goes first, without which D is needed and A is not; without A, D is not needed any more."""
    judge = Table(ABCD=0.0, ABD=0.01, ABC=0.05, BD=0.02, B=0.03)
    found = eliminate(judge, four_neurons(), four_neurons(), 0.1)
    assert found.loss == 0.03
    assert np.argwhere(found.gates["mlp_neuron"]).tolist() == [[0, 1]] and count_nodes(found.gates) == 1


def test_one_that_cannot_go_in_its_turn_does_not_hold_up_those_after_it(monkeypatch, capsys):
    """A, B and C can each go. After A, B and C cannot go together, nor B alone, but C can."""
    monkeypatch.setattr(progress, "PLAIN_SECONDS", 0.0)
    judge = Table(ABCD=0.0, BCD=0.01, ACD=0.02, ABD=0.03, BD=0.04)
    judge.label = "table"
    found = eliminate(judge, four_neurons(), four_neurons(), 0.1)
    assert found.loss == 0.04 and np.argwhere(found.gates["mlp_neuron"]).tolist() == [[0, 1], [0, 3]]
    # each; A to C, where A alone is known; B and C, B; C; then the two that are left
    assert judge.asked == [4, 1, 1, 1, 1, 2]
    said = capsys.readouterr().err
    assert [f"left {left} | loss {loss}" in said for left, loss in ((3, 0.01), (2, 0.04))] == [True, True]


def test_nodes_and_edges_can_go_together():
    start = only_between_open(random_gates(7, edges=True))
    target = float(losses_of(start).mean()) + 0.01
    edges = {
        key: gate * (np.asarray(kernel_of(key)) != 0) * between(start, key)
        for key, gate in start.items()
        if sites.is_edge(key)
    }
    nodes = {key: gate for key, gate in start.items() if not sites.is_edge(key)}
    found = eliminate(noisy(), start, {**nodes, **edges}, target)
    assert count_edges(noisy().params, found.gates) < count_edges(noisy().params, start)
    only_edges = eliminate(noisy(), start, edges, target)
    for site in nodes:
        np.testing.assert_array_equal(only_edges.gates[site], start[site])
    assert losses_of(found.gates).mean() <= target and losses_of(only_edges.gates).mean() <= target
    for gates in (found.gates, only_edges.gates):
        for key in edges:
            for place in np.argwhere(edges[key] * gates[key] * between(gates, key)):
                assert loss_without(gates, key, place) > target - 1e-6


def kernel_of(key):
    _, _, sublayer, matrix = next(m for m in sites.EDGE_MATRICES if sites.edge_key(*m[:2]) == key)
    return noisy().params["layers"][sublayer][matrix]["kernel"]


def between(gates, key):
    source, target = key.split("->")
    return gates[source][:, :, None] * gates[target][:, None, :]


def test_gates_that_miss_the_target_come_back_as_they_are():
    start = random_gates(6)
    found = eliminate(noisy(), start, start, 0.01)
    assert found.loss == pytest.approx(losses_of(start).mean(), abs=1e-5)
    for site, gate in start.items():
        np.testing.assert_array_equal(found.gates[site], gate)


def test_what_is_not_eligible_stays():
    start = random_gates(6)
    found = eliminate(noisy(), start, {"mlp_in": start["mlp_in"]}, 10.0)
    assert found.gates["mlp_in"].sum() == 0 < start["mlp_in"].sum()
    for site in start:
        if site != "mlp_in":
            np.testing.assert_array_equal(found.gates[site], start[site])


def planted():
    params, pairs = planted_params(), planted_pairs(8)
    ablated = {site: gate * 0.0 for site, gate in planted_gates().items()}
    return Judge(PLANTED, params, ablated, pairs)


def test_of_the_whole_model_the_planted_circuit_is_left():
    everything = {site: np.ones(gate.shape, np.float32) for site, gate in planted_gates().items()}
    found = eliminate(planted(), everything, everything, 0.15)
    for site, gate in planted_gates().items():
        np.testing.assert_array_equal(found.gates[site], gate, err_msg=site)
    assert found.loss <= 0.15


@pytest.mark.slow
def test_what_saves_more_edges_goes_first(monkeypatch):
    edges = []
    for order in (module._loss_for_an_edge, lambda change, saved: change):
        monkeypatch.setattr(module, "_loss_for_an_edge", order)
        found = 0
        for seed in range(6):
            start = random_gates(seed)
            target = float(losses_of(start).mean()) + 0.02
            found += count_edges(noisy().params, eliminate(noisy(), start, start, target).gates)
        edges.append(found)
    assert edges[0] < edges[1]
    monkeypatch.undo()
    assert module._loss_for_an_edge(np.array([0.3, 0.3, -0.1, -0.1]), np.array([0, 2, 0, 2])).tolist() == (
        pytest.approx([0.3, 0.1, -0.1, -0.3])
    )


def test_long_elimination_and_discretization_show_how_far_they_are(one_width, monkeypatch, capsys):
    monkeypatch.setattr(progress, "PLAIN_SECONDS", 0.0)
    judge = dataclasses.replace(noisy(), label="sparse quotes")
    start = random_gates(3)
    found = eliminate(judge, start, start, 10.0)
    said = capsys.readouterr().err
    assert not any(gate.any() for gate in found.gates.values())
    units = module._open_units(start, start, True).count
    assert f"sparse quotes: eliminate: {units}/{units} units 100 %" in said and "left 0" in said
    discretize(judge, {site: gate for site, gate in start.items() if site != "k"}, 1e-6)
    said = capsys.readouterr().err
    assert "sparse quotes: discretize: 16/" in said and "sparse quotes: the size of the lowest loss: " in said
    eliminate(noisy(), start, start, 10.0)
    assert capsys.readouterr().err == ""


def test_no_gates_are_run_twice(monkeypatch):
    """Those at the start by themselves; the losses of all others are known from when they were variants."""
    gates = {site: np.array(gate, np.float32) for site, gate in planted_gates().items()}
    more = {**gates, "mlp_neuron": np.ones_like(gates["mlp_neuron"])}
    asked, variants = [], Judge.variants

    def noting(judge, gates, ranks, closed_Cx2, limit=np.inf):
        asked.append((len(closed_Cx2), limit))
        return variants(judge, gates, ranks, closed_Cx2, limit)

    monkeypatch.setattr(Judge, "variants", noting)
    found = eliminate(planted(), more, more, 0.15)
    for site, gate in gates.items():
        np.testing.assert_array_equal(found.gates[site], gate, err_msg=site)
    assert [call for call in asked if np.isinf(call[1])] == [(1, np.inf)]
    # after each unit, all seven that can go, at once: smaller numbers are not tried
    assert asked == [(1, np.inf), (10, 0.15), (1, 0.15), (3, 0.15)]
    asked.clear()
    again = eliminate(planted(), gates, gates, 0.15)
    assert asked == [(1, np.inf), (3, 0.15)]  # then each unit, none of which can go
    assert found.loss == pytest.approx(again.loss, abs=1e-6) and again.loss <= 0.15
    assert found.standard_error == pytest.approx(again.standard_error, abs=1e-6)
