"""A search in rounds: a finished one can be extended, and later rounds are chosen from all before."""

import dataclasses

import numpy as np
import pytest

from sparse_jax.inputs import InputError
from sparse_jax.model.sites import node_shapes
from sparse_jax.pruning import search as searching
from sparse_jax.pruning.proposals import search_space
from sparse_jax.pruning.recipe import Recipe, SearchConfig
from sparse_jax.pruning.search import search_tasks
from sparse_jax.pruning.store import Store
from sparse_jax.pruning.subject import Subject
from sparse_jax.pruning.trials import Outcome, next_round
from sparse_jax.tasks.task_data import task_data
from tests import planted
from tests.planted import CONFIG, Planted, planted_model

PRUNE = dataclasses.replace(planted.PRUNE, steps=20)
LANES = 2


@pytest.fixture(scope="module")
def model():
    return planted_model()


def searched(model, directory, rounds, propose_round=next_round):
    data = task_data(Planted("planted", "tests", "which digit is last"), model.tokenizer, 8, PRUNE.counts)
    means = {site: np.zeros(shape, np.float32) for site, shape in node_shapes(CONFIG).items()}
    recipe = Recipe(PRUNE, SearchConfig(lanes=LANES, rounds=rounds))
    subject = Subject(model, means, Store(directory))
    return search_tasks(subject, [data], {"planted": (0.15,)}, recipe, "tests", propose_round)["planted"]


def test_a_finished_search_is_extended_to_what_a_longer_one_would_have_been(model, tmp_path, monkeypatch):
    optimize, calls = searching.optimize_gates, []
    monkeypatch.setattr(searching, "optimize_gates", lambda *some: calls.append(1) or optimize(*some))
    first = searched(model, tmp_path / "extended", 1).trials
    kept = {path.name: path.read_bytes() for path in (tmp_path / "extended").rglob("*.npz")}
    extended = searched(model, tmp_path / "extended", 3)
    assert len(calls) == 3 and len(kept) == LANES and len(extended.trials) == 3 * LANES
    assert extended.trials[:LANES] == first
    for name, content in kept.items():
        (path,) = (tmp_path / "extended").rglob(name)
        assert path.read_bytes() == content
    whole = searched(model, tmp_path / "whole", 3)
    assert whole.trials == extended.trials
    for trial in whole.trials:
        for site, tau in whole.logits(trial).items():
            np.testing.assert_array_equal(tau, extended.logits(trial)[site])
    # with fewer rounds than there are, nothing is pruned again and nothing is lost
    assert searched(model, tmp_path / "extended", 2).trials == extended.trials and len(calls) == 6


def test_a_round_is_proposed_from_all_before_and_no_others(model, tmp_path):
    given, proposed = [], []

    def spied(space, trials, search, targets):
        given.append(list(trials))
        return next_round(space, trials, search, targets)

    trials = searched(model, None, 3, spied).trials
    assert given == [trials[: LANES * number] for number in range(3)]
    # and the outcomes count: with other ones, the next round is another
    search, space = SearchConfig(lanes=LANES, rounds=3), search_space(PRUNE)
    second = [trial.parameters for trial in trials[LANES : 2 * LANES]]
    assert next_round(space, trials[:LANES], search, (0.15,)) == second
    outcomes = [(Outcome(0.15, 1, edges, 0.1),) for edges in (10**6, 1)]
    for some in (outcomes, outcomes[::-1]):
        told = [dataclasses.replace(one, outcomes=end) for one, end in zip(trials, some, strict=False)]
        found = next_round(space, told, search, (0.15,))
        assert found == next_round(space, told, search, (0.15,))
        proposed.append(found)
    assert proposed[0] != proposed[1]


def test_two_tasks_of_one_name_are_not_searched_together(model):
    data = task_data(Planted("planted", "tests", "which digit is last"), model.tokenizer, 8, PRUNE.counts)
    with pytest.raises(InputError, match="^tasks: 'planted' is given 2 times"):
        search_tasks(Subject(model, {}, Store(None)), [data, data], {"planted": (0.15,)}, Recipe(PRUNE))
