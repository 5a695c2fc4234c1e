"""The pairs that circuits are found on: of the main splits, or mixed with kinds of shift."""

import dataclasses

import numpy as np
import pytest

from sparse_jax.data.simple_python import programs
from sparse_jax.data.tokenizer import train_tokenizer
from sparse_jax.inputs import InputError
from sparse_jax.models.model import Model
from sparse_jax.pruning.config import PruneConfig
from sparse_jax.pruning.prune import prune_tasks
from sparse_jax.pruning.recipe import Recipe
from sparse_jax.tasks.find import find_task
from sparse_jax.tasks.own import pairs_task
from sparse_jax.tasks.task_data import task_data
from tests.planted import Planted
from tests.pruning import test_prune
from tests.pruning.test_prune import corpus, model  # noqa: F401 (fixtures)

PRUNE = PruneConfig(pairs_per_step=4, train_pairs=32, validation_pairs=13, test_pairs=8, seed=5)
BOTH = dataclasses.replace(PRUNE, shifts=("words", "nesting"))


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer(programs(seed=0, count=300), 500)


def texts(tokenizer, pairs):
    """Both prompts of each pair."""
    rows = pairs.tokens.reshape(-1, pairs.tokens.shape[-1])
    found = [tokenizer.decode(row[: end + 1].tolist()) for row, end in zip(rows, pairs.last.ravel())]
    return list(zip(found[::2], found[1::2]))


def drawn(task, split, count):
    return [(pair.prompt, pair.counterfactual) for pair in task.pairs(split, count, PRUNE.seed)]


@pytest.mark.parametrize("name", ["for_while", "with_open.hashed"])
def test_circuits_are_found_on_equal_parts(tokenizer, name):
    task, data = find_task(name), task_data(find_task(name), tokenizer, 256, BOTH.counts)
    train, validation, test = (texts(tokenizer, pairs) for pairs in data.splits)
    # 32 = 12 + 10 + 10 and 13 = 5 + 4 + 4, the rest being of the main split
    parts = drawn(task, "train", 12), drawn(task, "words_train", 10), drawn(task, "nesting_train", 10)
    assert sorted(train) == sorted(sum(parts, []))
    parts = [drawn(task, split, 4) for split in ("words_validation", "nesting_validation")]
    assert sorted(validation) == sorted(sum(parts, drawn(task, "validation", 5)))
    assert test == drawn(task, "test", 8)
    first, last = (set(half) & set(drawn(task, "train", 12)) for half in (train[:16], train[16:]))
    assert first and last  # mixed, not one after the other
    (lengths,) = {pairs.tokens.shape[-1] for pairs in data.splits}
    assert lengths >= 1 + max(int(pairs.last.max()) for pairs in data.splits)
    again = task_data(task, tokenizer, 256, BOTH.counts)
    assert again.fingerprint == data.fingerprint
    assert task_data(task, tokenizer, 256, PRUNE.counts).fingerprint != data.fingerprint


def test_answers_stay_with_their_prompts(tokenizer):
    task = find_task("for_while")
    data = task_data(task, tokenizer, 256, BOTH.counts)
    answers = np.vectorize(lambda token: tokenizer.decode([token]))(data.train.candidates)
    for members, right in zip(texts(tokenizer, data.train), answers):
        for prompt, (answer, wrong) in zip(members, right):
            keyword = prompt.split("\n")[-1].split()[0]
            assert (answer, wrong) == {"for": (" in", ":\n"), "while": (":\n", " in")}[keyword]


def test_without_kinds_of_shift_pairs_are_those_of_the_main_splits_in_order(tokenizer):
    task = find_task("for_while")
    data = task_data(task, tokenizer, 256, PRUNE.counts)
    for split, pairs, count in zip(("train", "validation", "test"), data.splits, (32, 13, 8)):
        assert texts(tokenizer, pairs) == drawn(task, split, count)
        alone = task.encode(split, count, PRUNE.seed, tokenizer, 256)
        np.testing.assert_array_equal(pairs.last, alone.last)
        np.testing.assert_array_equal(pairs.candidates, alone.candidates)
    # by which circuits that were stored before there were kinds of shift are found again
    assert "shifts" not in repr(PRUNE)


def test_what_is_judged_is_not_what_is_trained_on(tokenizer):
    task = find_task("var_if")
    data = task_data(task, tokenizer, 256, dataclasses.replace(PRUNE, shifts=task.shifts).counts)
    known = {
        prompt
        for pairs in (data.train, data.validation)
        for both in texts(tokenizer, pairs)
        for prompt in both
    }
    for split in ("test", "shifted", *task.shifts):
        assert not known & {prompt for pair in drawn(task, split, 300) for prompt in pair}


def test_the_circuit_says_what_it_was_found_on(model: Model, corpus, tmp_path):  # noqa: F811
    # otherwise the settings of those tests, whose programs serve here too
    prune = dataclasses.replace(test_prune.PRUNE, shifts=("other",))
    data = task_data(Planted("planted", "tests", "which digit is last"), model.tokenizer, 8, prune.counts)
    (found,) = prune_tasks(model, corpus, [data], Recipe(prune), tmp_path)
    assert list(found.provenance["pruning"]["shifts"]) == ["other"]


def test_wrong_input_is_named(tokenizer):
    def refused(task, *shifts):
        with pytest.raises(InputError) as caught:
            task_data(task, tokenizer, 256, dataclasses.replace(PRUNE, shifts=shifts).counts)
        return str(caught.value)

    said = refused(find_task("for_while"), "wrods")
    assert said.startswith(
        "pruning.shifts: task 'for_while': 'wrods' is unknown; did you mean 'words'? valid: "
    )
    # that has everything at once, and is for judging alone
    assert refused(find_task("for_while"), "shifted").endswith("valid: distractors, nesting, words")
    own = pairs_task([("a", "b", "c", "d")], "mine")
    assert refused(own, "words") == (
        "pruning.shifts: 'words': task 'mine' has no kinds of shift; valid: () for it"
    )
    with pytest.raises(InputError, match="pruning.shifts: .* is not valid; valid: each kind once"):
        dataclasses.replace(PRUNE, shifts=("words", "words"))
    with pytest.raises(InputError, match="pruning.shifts: .*; valid: fewer kinds than pairs of a split, 2"):
        dataclasses.replace(PRUNE, validation_pairs=2, shifts=("words", "nesting"))


@pytest.mark.parametrize("settings", [PRUNE, BOTH])
def test_pairs_that_confirm_are_of_the_validation_split_and_choose_nothing(tokenizer, settings):
    task = find_task("for_while")
    data = task_data(task, tokenizer, 256, dataclasses.replace(settings, confirmation_pairs=9).counts)
    train, chosen, test, fresh = (texts(tokenizer, pairs) for pairs in data.splits)
    assert (len(train), len(chosen), len(test), len(fresh)) == (32, 13, 8, 9)
    assert not set(chosen) & set(fresh)
    possible = [f"{kind}_validation" for kind in settings.shifts] + ["validation"]
    assert set(chosen + fresh) <= set(sum((drawn(task, split, 22) for split in possible), []))
    (length,) = {pairs.tokens.shape[-1] for pairs in data.padded(250).splits}
    assert length == 250
    plain = task_data(task, tokenizer, 256, settings.counts)
    assert plain.confirmation is None and plain.fingerprint != data.fingerprint
    assert "confirmation" not in repr(settings)
