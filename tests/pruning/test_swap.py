"""A smaller circuit that no removal leads to is found; what comes back keeps the target and is a minimum."""

import dataclasses

import numpy as np
import pytest

from sparse_jax import progress
from sparse_jax.ablation import judge as evaluate
from sparse_jax.ablation.judge import Judge
from sparse_jax.circuits.edges import circuit_size, count_nodes
from sparse_jax.model import sites
from sparse_jax.pruning import swap as module
from sparse_jax.pruning.eliminate import eliminate
from sparse_jax.pruning.swap import swap
from sparse_jax.trees import fingerprint
from tests.planted import CONFIG as PLANTED
from tests.planted import planted_gates, planted_pairs, planted_params
from tests.pruning.noisy import losses_of, noisy, random_gates
from tests.pruning.test_eliminate import check_local_minimum

HALVES = (5, 6)


def with_halves():
    """The planted model in which two further neurons together do what neuron 3 does alone."""
    params = planted_params()
    mlp = params["layers"]["mlp"]
    up, down = mlp["up"]["kernel"], mlp["down"]["kernel"]
    for half in HALVES:
        up = up.at[:, :, half].set(up[:, :, 3])
        down = down.at[:, half].set(down[:, 3] / 2)
    mlp = {"up": {**mlp["up"], "kernel": up}, "down": {**mlp["down"], "kernel": down}}
    ablated = {site: np.zeros(gate.shape, np.float32) for site, gate in planted_gates().items()}
    params = {**params, "layers": {**params["layers"], "mlp": {**params["layers"]["mlp"], **mlp}}}
    return Judge(PLANTED, params, ablated, planted_pairs(8, seed=1))


def everything():
    shapes = sites.node_shapes(PLANTED, sites.LAYER_SITES)
    return {site: np.ones(shape, np.float32) for site, shape in shapes.items()}


def halves():
    """The circuit of the two neurons: 4 nodes, 4 edges."""
    gates = {site: np.array(gate) for site, gate in planted_gates().items()}
    gates["mlp_neuron"][0] = np.isin(np.arange(8), HALVES)
    return gates


def test_a_neuron_that_is_let_in_replaces_two():
    judge, start = with_halves(), halves()
    stuck = eliminate(judge, start, start, 0.15)
    assert circuit_size(judge.params, stuck.gates) == (4, 4)  # neither half can go alone
    found = swap(judge, stuck, everything(), 0.15)
    for site, gate in planted_gates().items():
        np.testing.assert_array_equal(found.gates[site], gate, err_msg=site)
    assert found.loss <= 0.15


def test_what_is_not_eligible_is_not_let_in():
    judge, start = with_halves(), halves()
    stuck = eliminate(judge, start, start, 0.15)
    allowed = everything()
    allowed["mlp_neuron"][0, 3] = 0
    found = swap(judge, stuck, allowed, 0.15)
    assert found.gates["mlp_neuron"][0, 3] == 0
    assert circuit_size(judge.params, found.gates) == (4, 4)


@pytest.mark.parametrize(("seed", "above"), [pytest.param(1, 0.02, marks=pytest.mark.slow), (5, 0.3)])
def test_circuits_of_a_model_without_a_known_one_get_smaller_too(one_width, seed, above):
    start = random_gates(seed, 0.45)
    target = float(losses_of(start).mean()) + above
    before = eliminate(noisy(), start, start, target)
    eligible = {site: np.ones_like(gate) for site, gate in start.items()}
    after = swap(noisy(), before, eligible, target)
    assert circuit_size(noisy().params, after.gates) < circuit_size(noisy().params, before.gates)
    tried = check_local_minimum(after, eligible, target)
    assert tried == count_nodes(after.gates)
    np.testing.assert_array_equal(after.gates["q"], after.gates["k"])


def test_progress_says_which_swap_is_tried(monkeypatch, capsys):
    monkeypatch.setattr(progress, "PLAIN_SECONDS", 0.0)
    judge = dataclasses.replace(with_halves(), label="quotes")
    swap(judge, eliminate(judge, halves(), halves(), 0.15), everything(), 0.15)
    said = capsys.readouterr().err
    assert "quotes: swap 1: eliminate: " in said and "quotes: swap 5: eliminate: " in said


def test_nothing_is_drawn_or_differentiated_twice(monkeypatch):
    drawn, asked = [], []
    draw_pairs, gradients = evaluate.draw_pairs, Judge.gradients

    def noting(judge, gates):
        asked.append(b"".join(np.asarray(gates[site]).tobytes() for site in sorted(gates)))
        return gradients(judge, gates)

    monkeypatch.setattr(evaluate, "draw_pairs", lambda *given: drawn.append(given[0]) or draw_pairs(*given))
    monkeypatch.setattr(Judge, "gradients", noting)
    judge = dataclasses.replace(with_halves(), label="quotes")
    found = swap(judge, eliminate(judge, halves(), halves(), 0.15), everything(), 0.15)
    assert circuit_size(judge.params, found.gates) == (2, 3)
    assert drawn == ["mean"] and len(asked) == len(set(asked)) == 2


def test_no_elimination_starts_where_another_did(monkeypatch):
    """Letting in four is letting in two, if no more than two help; and the first swap can be undone."""
    judge, started = with_halves(), []

    def noting(judge, gates, *given):
        started.append(fingerprint(gates))
        return eliminate(judge, gates, *given)

    monkeypatch.setattr(module, "eliminate", noting)
    swap(judge, eliminate(judge, halves(), halves(), 0.15), everything(), 0.15)
    assert 1 < len(started) == len(set(started))
