"""The sampler around a Pareto front, and the study that compares it, on truth that is known."""

import dataclasses
import json
import math

import numpy as np
import optuna
import pytest

from experiments.configs import search_samplers as config
from experiments.studies import search_samplers as study
from experiments.studies.gaussian_process import Kernel, condition, fit
from experiments.studies.pareto_sampler import (
    ParetoSampler,
    believed,
    expected_improvement,
    normal_scores,
    pareto_front,
    probability,
)
from experiments.studies.search_samplers_report import best_after, write_searches
from sparse_jax.inputs import from_mapping
from sparse_jax.model.sites import node_shapes
from sparse_jax.pruning import search as searching
from sparse_jax.pruning.config import PruneConfig
from sparse_jax.pruning.proposals import search_space
from sparse_jax.pruning.recipe import Recipe, SearchConfig
from sparse_jax.pruning.store import Store
from sparse_jax.pruning.subject import Subject
from sparse_jax.pruning.trials import Outcome, Trial
from sparse_jax.tasks.task_data import task_data
from tests.planted import CONFIG, Planted, planted_model

PRUNE = PruneConfig(k_coef=3e-3, learning_rate=7e-3)
SPACE = search_space(PRUNE)
TARGET = 0.15
SEARCH = SearchConfig(lanes=4, rounds=5)
QUICK = {
    "steps": 60,
    "pairs_per_step": 4,
    "train_pairs": 8,
    "validation_pairs": 4,
    "test_pairs": 4,
    "k_coef": 0.01,
    "learning_rate": 0.02,
    "swaps": False,
}


def test_a_posterior_is_that_of_two_points_by_hand():
    kernel = Kernel(smooth=2.0, length=0.5, linear=3.0, noise=0.5)
    x, y, new = np.array([[0.1], [0.4]]), np.array([1.0, -2.0]), np.array([[0.2]])

    def k(a, b):
        r = math.sqrt(3) * abs(a - b) / 0.5
        return 4 * (1 + r) * math.exp(-r) + 9 * a * b

    a, b, c = k(0.1, 0.1) + 0.25, k(0.1, 0.4), k(0.4, 0.4) + 0.25
    u, v = k(0.2, 0.1), k(0.2, 0.4)
    determinant = a * c - b * b
    first, second = (c * u - b * v) / determinant, (a * v - b * u) / determinant
    process = condition(kernel, x, y)
    mean, deviation = process.predict(new)
    assert mean[0] == pytest.approx(first * 1.0 + second * -2.0)
    assert deviation[0] ** 2 == pytest.approx(k(0.2, 0.2) - first * u - second * v)
    quadratic = (c * 1.0 - 2 * b * 1.0 * -2.0 + a * 4.0) / determinant
    expected = -0.5 * (quadratic + math.log(determinant)) - math.log(2 * math.pi)
    assert process.log_likelihood() == pytest.approx(expected)


def test_fitting_finds_what_points_were_drawn_from():
    rng = np.random.default_rng(0)
    x = rng.uniform(-0.5, 0.5, (60, 2))
    truth = Kernel(smooth=0.8, length=0.3, linear=1.0, noise=0.2)
    covariance = truth.covariance(x, x) + truth.noise**2 * np.eye(60)
    y = np.linalg.cholesky(covariance) @ rng.normal(size=60)
    found = fit(x, y)
    assert found.log_likelihood() >= condition(truth, x, y).log_likelihood()
    assert found.kernel.noise == pytest.approx(0.2, rel=0.5)


def test_what_is_believed_changes_no_mean_but_makes_certain():
    rng = np.random.default_rng(1)
    x, y, pending = rng.normal(size=(5, 3)), rng.normal(size=5), rng.normal(size=(1, 3))
    before = condition(Kernel(1.0, 1.0, 0.5, 0.1), x, y)
    after = believed(before, pending)
    assert after.predict(pending)[0] == pytest.approx(before.predict(pending)[0])
    assert after.predict(pending)[1] < 0.2 < before.predict(pending)[1]


def test_expected_improvement_is_its_integral():
    draws = np.random.default_rng(0).normal(0.3, 0.7, 400_000)
    found = expected_improvement(np.array([0.3]), np.array([0.7]), 0.1)[0]
    assert found == pytest.approx(np.maximum(0.1 - draws, 0).mean(), rel=0.01)
    assert probability(np.array([0.3]), np.array([0.7]), 0.1)[0] == pytest.approx(
        (draws <= 0.1).mean(), abs=3e-3
    )


def test_the_front_holds_what_nothing_beats_near_the_target():
    sizes = np.array([20.0, 25, 15, 12, 30, 3])
    misses = np.array([0.0, 0, 0.2, 0.3, 0.1, 1.5])
    assert pareto_front(sizes, misses).tolist() == [0, 2, 3]  # the last is far from the target
    assert pareto_front(sizes[2:], misses[2:] + 1).tolist() == [2]  # all are: the closest
    assert normal_scores([5, 1, math.inf]) == pytest.approx([0, -0.9674, 0.9674], abs=1e-4)


def bowl(parameters, rng):
    """Edges and loss: a valley that matters most along two parameters; a high price misses the target."""
    logs = {name: math.log(value / SPACE[name].center) for name, value in parameters.items()}
    weights = {"k_coef": 1.0, "learning_rate": 1.0}
    far = sum(weights.get(name, 0.05) * (x - 1.2) ** 2 for name, x in logs.items())
    loss = TARGET * math.exp(max(0.0, logs["k_coef"] - 1.8))
    return int(1000 * math.exp(far + 0.05 * rng.normal())), loss


def searched(propose_round, rounds, seed, lanes=SEARCH.lanes):
    search = dataclasses.replace(SEARCH, seed=seed, lanes=lanes)
    rng, trials = np.random.default_rng(seed), []
    for _ in range(rounds):
        for parameters in propose_round(SPACE, trials, search, (TARGET,)):
            edges, loss = bowl(parameters, rng)
            trials.append(Trial(len(trials), parameters, (Outcome(TARGET, edges, edges, loss),), edges, loss))
    return trials


def best(trials):
    return min(trial.at(TARGET).cost for trial in trials)


def test_in_a_known_valley_it_is_ahead_of_the_others():
    found = {
        name: np.mean([best(searched(one, 5, seed)) - math.log(1000) for seed in range(5)])
        for name, one in study.SAMPLERS.items()
    }
    assert found["pareto"] < 0.6 * found["random"] and found["pareto"] < 0.8 * found["tpe"]


def test_rounds_depend_on_seed_and_trials_only_and_use_what_came_before():
    four, three = searched(study.pareto, 4, seed=3), searched(study.pareto, 3, seed=3)
    assert four[:12] == three  # a longer search begins as the shorter one
    search = dataclasses.replace(SEARCH, seed=3)
    again = study.pareto(SPACE, three, search, (TARGET,))
    assert again == [trial.parameters for trial in four[12:]]
    assert len({json.dumps(parameters) for parameters in again}) == 4
    moved = dataclasses.replace(three[0], outcomes=(Outcome(TARGET, 1, 1, 0.1),))
    assert study.pareto(SPACE, [moved, *three[1:]], search, (TARGET,)) != again
    other = dataclasses.replace(search, seed=4)
    assert study.pareto(SPACE, three, other, (TARGET,)) != again
    for parameters in again:
        assert all(SPACE[name].low <= value <= SPACE[name].high for name, value in parameters.items())


def test_all_begin_with_the_same_round_and_random_goes_on_with_its_draws():
    rounds = [one(SPACE, [], SEARCH, (TARGET,)) for one in study.SAMPLERS.values()]
    assert rounds[0] == rounds[1] == rounds[2]
    trials = searched(study.random, 2, seed=0)
    twice = study.random(SPACE, [], dataclasses.replace(SEARCH, lanes=8), (TARGET,))
    assert [trial.parameters for trial in trials] == twice


def test_prunings_that_broke_down_are_avoided_and_all_may_have():
    trials = searched(study.random, 2, seed=0)
    broken = [
        dataclasses.replace(trial, outcomes=(Outcome(TARGET, 0, 0, None),), loss=None) for trial in trials
    ]
    assert len(study.pareto(SPACE, broken, SEARCH, (TARGET,))) == 4
    # all above the center in one parameter have broken down: proposals are below
    some = [
        two if trial.parameters["learning_rate"] > SPACE["learning_rate"].center else trial
        for trial, two in zip(trials, broken, strict=True)
    ]
    rates = [one["learning_rate"] for one in study.pareto(SPACE, some, SEARCH, (TARGET,))]
    assert max(rates) < 1.5 * SPACE["learning_rate"].center


def test_other_kinds_of_parameters_are_drawn_at_random():
    sampler = ParetoSampler(TARGET, seed=0)
    run = optuna.create_study(directions=["minimize"] * 2, sampler=sampler)

    def objective(trial):
        kind, x = trial.suggest_categorical("kind", ["a", "b"]), trial.suggest_float("x", -1, 3)
        return x**2 + (kind == "b"), 0.1

    run.optimize(objective, n_trials=25)
    last = run.trials[10:]
    assert {trial.params["kind"] for trial in last} == {"a", "b"}
    assert np.median([abs(trial.params["x"]) for trial in last]) < 0.5


def test_every_search_goes_on_from_one_first_round_and_is_found_again(tmp_path, monkeypatch):
    model, prune = planted_model(), dataclasses.replace(PRUNE, **QUICK)
    data = task_data(Planted("planted", "tests", "which digit is last"), model.tokenizer, 8, prune.counts)
    shapes = node_shapes(CONFIG)
    means = {site: np.zeros(shape, np.float32) for site, shape in shapes.items()}
    subject = Subject(model, means, Store(None))
    optimize, calls = searching.optimize_gates, []
    monkeypatch.setattr(searching, "optimize_gates", lambda *some: calls.append(1) or optimize(*some))

    def run(rounds):
        recipe = Recipe(prune, SearchConfig(lanes=2, rounds=rounds))
        return list(study.measured_searches(subject, [data], recipe, tuple(study.SAMPLERS), tmp_path))

    one = run(1)[-1][0]
    assert len(calls) == 1 and [(row.sampler, row.number) for row in one] == [("first", 0), ("first", 1)]
    rows, ends = run(2)[-1]
    assert len(calls) == 1 + 3 and rows[:2] == one
    assert [(row.sampler, row.number) for row in rows[2:]] == [(s, n) for s in study.SAMPLERS for n in (2, 3)]
    assert {row.round for row in rows[2:]} == {2}
    assert [end.sampler for end in ends] == ["first", *study.SAMPLERS]
    for end in ends:
        own = [row for row in rows if row.sampler in ("first", end.sampler) and row.reached]
        assert end.ranked <= min(row.edges for row in own) and end.edges == 2
        assert end.validation <= prune.target_loss and end.test <= prune.target_loss
    evaluated = (tmp_path / "eliminated.jsonl").read_bytes()
    assert run(2)[-1] == (rows, ends) and len(calls) == 4
    assert (tmp_path / "eliminated.jsonl").read_bytes() == evaluated


def row_of(task, sampler, number, edges, reached=True):
    return study.TrialRow(task, sampler, 1 + number // 2, number, reached, edges, 9, 0.1, {"k_coef": 0.1})


def test_the_table_has_ratios_over_tasks_that_both_reach(tmp_path):
    rows = [row_of(task, "first", number, 40) for task in "abc" for number in (0, 1)]
    for task, sampler, edges in (
        ("a", "tpe", 20),
        ("a", "pareto", 10),
        ("b", "tpe", 30),
        ("b", "pareto", 60),
    ):
        rows += [row_of(task, sampler, 2, edges), row_of(task, sampler, 3, 1, reached=False)]
    assert best_after(rows, "b", "pareto", 2) == 40 and best_after(rows, "a", "tpe", 1) == 40
    ends = [
        study.BestRow("a", name, 2, "", 20, edges, 5, 0.1, 0.1) for name, edges in (("tpe", 8), ("pareto", 4))
    ]
    table = write_searches(rows, ends, tmp_path)
    # 10 / 20 and 40 / 30: the geometric mean is 0.816; the third task has no second round yet
    assert "| pareto | 4 | 2 | 0.82 [0.50, 1.33] |" in table
    assert "| pareto | 4, then elimination | 1 | 0.50 [0.50, 0.50] |" in table
    assert "| a | 40 | 20 | 10 |" in table and "| ... after elimination | - | 8 | 4 |" in table
    assert len((tmp_path / "rows.jsonl").read_text().splitlines()) == len(rows)
    assert (tmp_path / "search_samplers.png").stat().st_size > 0


def test_the_config_makes_what_the_study_asks_for():
    for size in ("quickstart", "tiny"):
        given = config.get_config(f"size={size}").to_dict()
        prune = from_mapping(PruneConfig, given["pruning"], "pruning")
        Recipe(prune, from_mapping(SearchConfig, given["search"], "search"))
        assert set(given["samplers"]) == set(study.SAMPLERS)
