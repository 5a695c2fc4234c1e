"""Controls of tasks: the same prompts, other answers."""

import re

import numpy as np
import pytest

from sparse_jax.inputs import InputError
from sparse_jax.tasks.built_in import TASKS, get_task
from sparse_jax.tasks.controls import CONTROLS, ControlTask, unrelated_words
from sparse_jax.tasks.own import pairs_task

ARGUMENTS = ("test", 60, 3)


@pytest.fixture(scope="module")
def encode(small_tokenizer):
    return lambda name, *other: get_task(name).encode(*(other or ARGUMENTS), small_tokenizer, 128)


@pytest.mark.parametrize("name", ["for_while", "class_init"])
@pytest.mark.parametrize("control", CONTROLS)
def test_prompts_are_those_of_the_task(encode, name, control):
    plain, other = encode(name), encode(f"{name}.{control}")
    np.testing.assert_array_equal(plain.tokens, other.tokens)
    np.testing.assert_array_equal(plain.last, other.last)
    assert other.candidates.dtype == np.int32 and (plain.candidates != other.candidates).any()
    assert get_task(f"{name}.{control}").pairs(*ARGUMENTS) == get_task(name).pairs(*ARGUMENTS)
    np.testing.assert_array_equal(encode(f"{name}.{control}").candidates, other.candidates)


@pytest.mark.parametrize("name", TASKS)
def test_nonsense_maps_every_answer_to_one_of_two_foreign_words(encode, small_tokenizer, name):
    plain, other = encode(name), encode(f"{name}.nonsense")
    one, two = unrelated_words(TASKS[name], small_tokenizer)
    assert one != two and not {one, two} & set(plain.candidates.ravel().tolist())
    for token in (one, two):
        text = small_tokenizer.decode([token])
        assert text[0] == " " and text[1:].isalpha()
    first = plain.candidates[..., 0] < plain.candidates[..., 1]
    np.testing.assert_array_equal(other.candidates[..., 0], np.where(first, one, two))
    np.testing.assert_array_equal(other.candidates[..., 1], np.where(first, two, one))


def test_nonsense_is_the_same_in_every_split_and_differs_between_tasks(encode, small_tokenizer):
    seen = {
        tuple(np.unique(encode("var_swap.nonsense", split, 30, seed).candidates))
        for split, seed in (("train", 0), ("test", 5))
    }
    assert len(seen) == 1
    assert len({unrelated_words(task, small_tokenizer) for task in TASKS.values()}) > 15


def test_constant_wants_the_same_token_of_both_members(encode):
    plain, other = encode("for_while"), encode("for_while.constant")
    low, high = sorted(np.unique(plain.candidates))
    np.testing.assert_array_equal(other.candidates, np.broadcast_to([low, high], (60, 2, 2)))


def test_shuffled_exchanges_both_members_of_about_half_of_the_pairs(encode):
    plain, other = encode("if_equals", "test", 300, 0), encode("if_equals.shuffled", "test", 300, 0)
    same = (plain.candidates == other.candidates).all(axis=(1, 2))
    exchanged = (plain.candidates == other.candidates[..., ::-1]).all(axis=(1, 2))
    assert (same ^ exchanged).all() and 120 < same.sum() < 180
    again = encode("if_equals.shuffled", "test", 300, 1).candidates
    assert (again[..., 0] != encode("if_equals", "test", 300, 1).candidates[..., 0]).any()


def test_unknown_controls_are_named():
    with pytest.raises(InputError, match="control of task 'for_while': 'nonsens' .*did you mean 'nonsense'"):
        get_task("for_while.nonsens")
    with pytest.raises(InputError, match="did you mean 'for_while'"):
        get_task("for_whil.nonsense")


def test_hashed_follows_the_first_name_and_nothing_of_the_task(encode, small_tokenizer):
    pairs = get_task("for_while").pairs("test", 300, 3)
    plain, other = (encode(name, "test", 300, 3) for name in ("for_while", "for_while.hashed"))
    bits = other.candidates[..., 0] > other.candidates[..., 1]
    np.testing.assert_array_equal(np.sort(other.candidates), np.sort(plain.candidates))
    by_name = {}
    for pair, row in zip(pairs, bits):
        for prompt, bit in zip((pair.prompt, pair.counterfactual), row):
            words = re.findall(r"[^\W\d]\w*", prompt)
            name = next(word for word in words if word not in ("def", "class", "for", "while", "if", "in"))
            assert by_name.setdefault(name, bit) == bit
    assert len(by_name) > 20 and 0.25 < np.mean(list(by_name.values())) < 0.75
    agrees = (other.candidates == plain.candidates).all(axis=-1).mean()
    assert 0.4 < agrees < 0.6  # knowing the task's answer is no better than chance


def test_a_control_of_a_control_has_the_answers_of_the_first(small_tokenizer):
    nonsense = get_task("for_while.nonsense")
    first = nonsense.encode(*ARGUMENTS, small_tokenizer, 128)
    second = ControlTask.of(nonsense, "hashed").encode(*ARGUMENTS, small_tokenizer, 128)
    assert set(second.candidates.ravel().tolist()) == set(first.candidates.ravel().tolist())
    assert (first.candidates != second.candidates).any()
    few = [{"prompt": f"a{i}", "counterfactual": f"b{i}", "answer": "x", "wrong": "y"} for i in range(12)]
    assert ControlTask.of(pairs_task(few, "few"), "nonsense").completions() == ["x", "y"]
