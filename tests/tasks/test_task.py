"""Splits, reproducibility and limits of a task's pairs."""

import pytest

from sparse_jax.inputs import InputError
from sparse_jax.tasks.pair import Pair
from sparse_jax.tasks.table import TASKS
from sparse_jax.tasks.task import SPLITS, Task, cut, split_of


def prompts(pairs) -> set[str]:
    return {text for pair in pairs for text in (pair.prompt, pair.counterfactual)}


@pytest.fixture(params=TASKS, scope="module")
def task(request):
    return TASKS[request.param]


def test_no_prompt_occurs_in_two_splits_whatever_the_seeds(task):
    by_split = {
        split: prompts(task.pairs(split, 100, s) + task.pairs(split, 100, s + 7))
        for s, split in enumerate(SPLITS)
    }
    assert not by_split["train"] & by_split["validation"]
    assert not by_split["train"] & by_split["test"]
    assert not by_split["validation"] & by_split["test"]
    for split, texts in by_split.items():
        assert {split_of(text) for text in texts} == {split}


def test_pairs_are_distinct_and_depend_on_the_seed_only(task):
    pairs = task.pairs("test", 200, seed=5)
    assert len({frozenset((pair.prompt, pair.counterfactual)) for pair in pairs}) == 200
    assert task.pairs("test", 200, seed=5) == pairs
    assert task.pairs("test", 50, seed=5) == pairs[:50]
    assert task.pairs("test", 200, seed=6) != pairs


def test_cut_takes_a_program_apart_at_its_marks():
    member = cut("print('a«')\n»x = 1\n")
    assert member == ("print('a", "')\n", "x = 1\n")
    assert member.program == "print('a')\nx = 1\n"


def test_a_task_of_few_pairs_says_how_many_it_has():
    names = [f"name{number}" for number in range(40)]

    def generate(rng):
        name = rng.choice(names)
        return f"if {name}«:\n»    pass\n", f"x = {name}«\n»"

    few = Task("few", "test", "a task of forty names", generate)
    possible = [name for name in names if split_of(f"if {name}") == split_of(f"x = {name}") == "train"]
    assert 2 < len(possible) < 40
    pairs = few.pairs("train", len(possible), seed=0)
    assert prompts(pairs) == {text for name in possible for text in (f"if {name}", f"x = {name}")}
    with pytest.raises(InputError, match=f"^count: 40 is more than task 'few' .*at most {len(possible)}$"):
        few.pairs("train", 40, seed=0)


def test_both_orders_of_a_pair_occur():
    answers = [pair.answer for pair in TASKS["with_open"].pairs("train", 60, seed=0)]
    assert 15 < answers.count("r") < 45
    assert all(isinstance(pair, Pair) for pair in TASKS["with_open"].pairs("train", 2, seed=0))


@pytest.mark.parametrize(
    ("split", "count", "message"),
    [
        ("vaidation", 3, r"split: 'vaidation' is unknown; did you mean 'validation'"),
        ("train", 0, r"count: 0 is not valid; valid: a positive number"),
    ],
)
def test_bad_arguments_are_named(split, count, message):
    with pytest.raises(InputError, match=message):
        TASKS["var_if"].pairs(split, count, seed=0)
