"""The journal of a search, and the search that goes on from it."""

import json

import numpy as np
import pytest

from sparse_jax.inputs import InputError
from sparse_jax.pruning.config import PruneConfig
from sparse_jax.pruning.proposals import search_space
from sparse_jax.pruning.recipe import SearchConfig
from sparse_jax.pruning.trials import Outcome, Trial, Trials, next_round

SPACE = search_space(PruneConfig())
TARGETS = (0.1, 0.4)
SEARCH = SearchConfig(lanes=4, rounds=3, seed=5)


def pruned(proposals, first):
    """As if prunings with a lower price left more edges, and a high price missed the strict target."""
    trials = []
    for i, parameters in enumerate(proposals):
        price = parameters["k_coef"] / SPACE["k_coef"].center
        loss, edges = 0.05 * price, int(100 / price) + i
        outcomes = tuple(Outcome(t, 9, edges, loss) for t in TARGETS)
        trials.append(Trial(first + i, parameters, outcomes, edges, loss))
    return trials


def logits_of(trials):
    numbers = np.array([trial.number for trial in trials], np.float32)
    return {"q": numbers[:, None, None] * np.ones((1, 2, 3), np.float32), "final_resid": numbers[:, None]}


def run(directory, rounds):
    journal = Trials(directory)
    while len(journal.trials) < rounds * SEARCH.lanes:
        trials = pruned(next_round(SPACE, journal.trials, SEARCH, TARGETS), len(journal.trials))
        journal.append_round(trials, logits_of(trials))
    return journal


def test_a_search_that_was_stopped_goes_on_as_if_it_had_not_been(tmp_path):
    whole = run(tmp_path / "whole", 3)
    run(tmp_path / "stopped", 1)
    # killed after the gates of the second round, before its journal was there
    (tmp_path / "stopped" / "logits" / "0004.npz").write_bytes(b"half")
    again = run(tmp_path / "stopped", 3)
    assert again.trials == whole.trials and len(whole.trials) == 12
    assert Trials(tmp_path / "stopped").trials == whole.trials
    for trial in whole.trials:
        assert (again.logits(trial)["q"] == trial.number).all()
        assert again.logits(trial)["final_resid"].shape == (1,)


def test_the_journal_is_lines_that_anyone_can_read(tmp_path):
    run(tmp_path, 1)
    rows = [json.loads(line) for line in (tmp_path / "trials.jsonl").read_text().splitlines()]
    assert [row["number"] for row in rows] == [0, 1, 2, 3]
    assert rows[0]["parameters"]["k_coef"] == SPACE["k_coef"].center
    assert rows[0]["outcomes"][1]["target"] == 0.4


def test_the_best_are_the_smallest_that_reach_the_target(tmp_path):
    journal = Trials(tmp_path)
    given = [(50, 0.1), (3, 0.41), (20, 0.3), (4, 0.2), (9, None)]
    trials = [Trial(i, {}, (Outcome(0.1, 9, e, x), Outcome(0.4, 9, e, x))) for i, (e, x) in enumerate(given)]
    journal.append_round(trials, logits_of(trials))
    assert [trial.number for trial in journal.best(0.4, 5)] == [3, 2, 0, 1, 4]
    assert [trial.number for trial in journal.best(0.1, 5)] == [0, 3, 2, 1, 4]
    assert [trial.number for trial in Trials(tmp_path).best(0.4, 5)] == [3, 2, 0, 1, 4]


def test_targets_take_turns_and_each_learns_from_every_trial(tmp_path):
    trials = run(tmp_path, 2).trials
    one = SearchConfig(lanes=1, rounds=3, seed=5)
    both = next_round(SPACE, trials, SEARCH, TARGETS)
    assert len(both) == 4 and len({p["k_coef"] for p in both}) == 4
    # two proposals of each; a round of a single lane serves the target whose turn it is
    assert next_round(SPACE, trials, one, TARGETS)[0] == both[0]
    assert next_round(SPACE, trials[:7], one, TARGETS)[0] == next_round(SPACE, trials[:7], SEARCH, TARGETS)[2]


def test_the_first_round_is_the_same_for_every_search():
    other = SearchConfig(lanes=4, rounds=1, seed=5)
    assert next_round(SPACE, [], other, (0.3,)) == next_round(SPACE, [], SEARCH, TARGETS)


def test_without_rounds_all_lanes_are_at_the_center():
    assert next_round(SPACE, [], SearchConfig(lanes=3), TARGETS) == [{}, {}, {}]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"lanes": 0}, "search.lanes: 0 is not valid; valid: at least 1"),
        ({"rounds": -1}, "search.rounds: -1"),
        ({"finalists": 0}, "search.finalists: 0"),
        ({"targets": (0.1, 0.0)}, "search.targets: .* above 0"),
        ({"targets": (0.1, 0.1)}, "search.targets: .* none twice"),
        ({"seed": -1}, "search.seed: -1"),
    ],
)
def test_wrong_settings_are_named(given, said):
    with pytest.raises(InputError, match=said):
        SearchConfig(**given)


def test_a_foreign_journal_and_missing_gates_are_named(tmp_path):
    (tmp_path / "trials.jsonl").write_text('{"step": 3}\n')
    with pytest.raises(InputError, match=r"trials.jsonl: 'outcomes'; valid: the journal of a search"):
        Trials(tmp_path)
    with pytest.raises(InputError, match=r"0007.npz cannot be read"):
        Trials(tmp_path / "new").logits(Trial(7, {}, ()))
