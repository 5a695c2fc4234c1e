"""The search on costs that are known."""

import logging
import math
import sys

import numpy as np
import pytest

from sparse_jax.inputs import InputError
from sparse_jax.pruning.config import Hyperparameters, PruneConfig
from sparse_jax.pruning.proposals import Told, cost, hyperparameters, propose, require_optuna, search_space

PRUNE = PruneConfig(k_coef=3e-3, learning_rate=0.02)
SPACE = search_space(PRUNE)


def bowl(parameters, best):
    """A valley that matters most along the price of a gate and the learning rate."""
    weights = {"k_coef": 1.0, "learning_rate": 1.0}
    return sum(weights.get(n, 0.05) * math.log(parameters[n] / best[n]) ** 2 for n in best)


def search(best, rounds, lanes, seed):
    told = []
    for _ in range(rounds):
        told += [Told(p, bowl(p, best)) for p in propose(SPACE, told, lanes, seed)]
    return [one.cost for one in told]


def test_the_eight_parameters_are_searched_around_the_config():
    assert len(SPACE) == 8
    assert SPACE["k_coef"].center == 3e-3 and SPACE["learning_rate"].center == 0.02
    assert SPACE["one_minus_b2"].center == pytest.approx(0.05)
    for one in SPACE.values():
        assert 0 < one.low < one.center < one.high < math.inf
    assert SPACE["warmup"].high <= 0.5 and SPACE["init_mean"].high < 1


def test_a_parameter_that_is_switched_off_stays_off():
    space = search_space(PruneConfig(weight_decay=0.0, warmup=0.0))
    assert "weight_decay" not in space and "warmup" not in space
    lanes = hyperparameters(PruneConfig(weight_decay=0.0), propose(space, [], 3, seed=0))
    assert lanes.weight_decay.tolist() == [0, 0, 0]


def test_a_center_outside_its_range_is_named():
    with pytest.raises(InputError, match="pruning.warmup: 0.7 is not valid"):
        search_space(PruneConfig(warmup=0.7))


def test_the_first_round_holds_the_center_and_its_neighborhood():
    first = propose(SPACE, [], 400, seed=0)
    assert first[0] == {name: one.center for name, one in SPACE.items()}
    logs = np.log([p["k_coef"] / SPACE["k_coef"].center for p in first[1:]])
    assert abs(logs.mean()) < 0.2 and 0.5 < logs.std() < 1.2
    for name, one in SPACE.items():
        values = [p[name] for p in first]
        assert min(values) >= one.low and max(values) <= one.high and len(set(values)) > 300


def test_proposals_depend_on_seed_and_told_only():
    told = [Told(p, bowl(p, propose(SPACE, [], 1, 0)[0])) for p in propose(SPACE, [], 8, seed=3)]
    for before in ([], told):
        assert propose(SPACE, before, 4, seed=3) == propose(SPACE, before, 4, seed=3)
        assert propose(SPACE, before, 4, seed=3)[1:] != propose(SPACE, before, 4, seed=4)[1:]
    assert propose(SPACE, told, 4, seed=3) != propose(SPACE, told[:-1], 4, seed=3)


def test_proposals_that_run_side_by_side_differ():
    told = [Told(p, p["k_coef"]) for p in propose(SPACE, [], 8, seed=0)]
    prices = [p["k_coef"] for p in propose(SPACE, told, 8, seed=0)]
    assert len(set(prices)) == 8


def test_it_finds_a_valley_better_than_draws_without_memory():
    searched, drawn = [], []
    for seed in range(5):
        rng = np.random.default_rng(100 + seed)
        best = {n: one.low * (one.high / one.low) ** rng.uniform(0.15, 0.85) for n, one in SPACE.items()}
        costs = search(best, rounds=6, lanes=8, seed=seed)
        assert min(costs) < costs[0]
        searched.append(min(costs))
        drawn.append(min(bowl(p, best) for p in propose(SPACE, [], 48, seed)))
    assert np.mean(searched) < 0.6 * np.mean(drawn)


def test_a_reached_target_is_better_than_any_miss():
    costs = [cost(0, 0.1, 0.15), cost(5, 0.15, 0.15), cost(10**9, 0.0, 0.15), cost(0, 0.1501, 0.15)]
    costs += [cost(10**9, 0.3, 0.15), cost(0, 0.9, 0.15), cost(0, math.nan, 0.15)]
    assert costs == sorted(costs) and len(set(costs)) == len(costs) and math.isfinite(costs[-1])


def test_a_search_in_which_everything_failed_goes_on():
    told = [Told(p, cost(0, math.nan, 0.15)) for p in propose(SPACE, [], 4, seed=0)]
    assert len(propose(SPACE, told, 4, seed=0)) == 4


def test_it_says_nothing(capsys, caplog):
    with caplog.at_level(logging.INFO):
        search(propose(SPACE, [], 1, 0)[0], rounds=2, lanes=2, seed=0)
    captured = capsys.readouterr()
    assert captured.out == captured.err == "" and not caplog.records


def test_lanes_have_the_proposed_values():
    lanes = hyperparameters(PRUNE, [{"k_coef": 0.5, "one_minus_b2": 0.25}, {}])
    assert isinstance(lanes, Hyperparameters)
    assert lanes.k_coef.tolist() == pytest.approx([0.5, 3e-3])
    assert lanes.b2.tolist() == pytest.approx([0.75, 0.95])
    assert lanes.gradient_clip.tolist() == [1, 1] and lanes.b2.dtype == np.float32


def test_no_lane_is_refused():
    with pytest.raises(InputError, match="search.lanes: 0"):
        propose(SPACE, [], 0, seed=0)


def test_without_optuna_its_remedy_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(InputError, match="search: needs optuna; valid: pip install optuna"):
        require_optuna()
