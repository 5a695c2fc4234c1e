"""Splits, reproducibility and limits of a task's pairs."""

import ast
import re
from dataclasses import dataclass

import pytest

from sparse_jax.data.programs import words
from sparse_jax.data.programs.holdout import can_open, split_of
from sparse_jax.inputs import InputError
from sparse_jax.tasks.built_in import TASKS
from sparse_jax.tasks.pair import Pair
from sparse_jax.tasks.task import DrawnTask, cut
from sparse_jax.tasks.vocabularies import UNFAMILIAR
from tests.tasks import drawn


def prompts(pairs) -> set[str]:
    return {text for pair in pairs for text in (pair.prompt, pair.counterfactual)}


def texts_of(task, split) -> list[str]:
    return sorted(prompts(drawn.pairs(task.name, split, 60)))


def first_line(prompt: str) -> str:
    line, line_end, _ = prompt.partition("\n")
    assert line_end
    return line


@pytest.fixture(params=TASKS, scope="module")
def task(request):
    return TASKS[request.param]


def test_splits_share_no_first_line_hence_no_prompt_whatever_the_seeds(task):
    firsts = {}
    for seed, split in enumerate(task.splits):
        part = "test" if split in ("shifted", *task.shifts) else split.split("_")[-1]
        if part == "test":
            texts = texts_of(task, split)
        else:
            texts = prompts(task.pairs(split, 30, seed) + task.pairs(split, 30, seed + 7))
        firsts[split] = {first_line(text) for text in texts}
        assert all(map(can_open, firsts[split]))
        # those that are judged on are of lines that no program to train on has
        assert {split_of(line) for line in firsts[split]} == {part}
    kinds = ["words", "nesting", "distractors"]
    assert list(task.shifts) == kinds
    parts = [f"{kind}{part}" for kind in kinds for part in ("", "_train", "_validation")]
    assert list(firsts) == ["train", "validation", "test", "shifted", *parts]
    for one in firsts:
        assert not any(firsts[one] & firsts[other] for other in firsts if other != one)


def test_thousands_of_distinct_pairs(task):
    pairs = task.pairs("train", 4000, seed=0)
    assert len({frozenset((pair.prompt, pair.counterfactual)) for pair in pairs}) == 4000
    lengths = sorted(len(pair.prompt) for pair in pairs)
    assert lengths[-1] <= 130 and lengths[3600] - lengths[400] >= 35
    assert 1800 < sum(pair.answer < pair.wrong for pair in pairs) < 2200


def test_shifted_prompts_are_longer_deeper_and_of_other_words(task):
    main, shifted = (texts_of(task, split) for split in ("test", "shifted"))
    longest, mean = max(map(len, main)), sum(map(len, main)) / len(main)
    assert all(len(text) <= 240 for text in shifted)
    assert sum(map(len, shifted)) / len(shifted) > max(longest, 1.8 * mean)
    known = {*words.NOUNS, *words.VERBS, *words.ADJECTIVES, *words.COMMON_NAMES}
    assert not known & {part for group in UNFAMILIAR for part in group}
    for text in shifted:
        name = first_line(text).split("(")[0].split(" ")[1].strip(":")
        assert not known & {name.lower(), *name.split("_")}
    if task.family != "definitions":  # whose lines stand at top level or in a class
        depths = [sum(text.count("\n" + " " * 4 * level) > 0 for level in (1, 2, 3)) for text in shifted]
        assert sum(depths) / len(depths) > 1.8


@pytest.mark.parametrize("split", ["shifted", "words", "nesting", "distractors"])
def test_shifted_programs_parse(task, split):
    for members in drawn.members(task.name, split, 60):
        for member in members:
            ast.parse(member.program)


def test_each_kind_of_shift_is_of_one_thing(task):
    """Words, depth and length, by what the texts say, not by how they were drawn."""
    other = {part for group in UNFAMILIAR for part in group if len(part) > 1}
    texts = {kind: texts_of(task, kind) for kind in ("test", *task.shifts)}
    found = {
        kind: [bool(other & {word.lower() for word in re.findall("[A-Za-z][a-z]*", text)}) for text in some]
        for kind, some in texts.items()
    }
    assert not any(found["test"] + found["nesting"] + found["distractors"])
    assert sum(found["words"]) > 0.9 * len(found["words"])
    length, depth, lines = (
        {kind: sum(map(of, texts[kind])) / len(texts[kind]) for kind in texts}
        for of in (len, lambda text: max(map(_depth, text.split("\n"))), lambda text: text.count("\n"))
    )
    assert length["nesting"] > 1.5 * length["test"] and length["distractors"] > 1.2 * length["test"]
    assert lines["words"] < lines["nesting"] and lines["words"] < lines["distractors"]
    # definitions stand at top level or in a class, and an indentation that is asked about is one token
    if task.family != "definitions" and task.name != "while_return_true":
        assert depth["nesting"] > depth["test"] + 0.2 and depth["words"] < depth["nesting"]


def _depth(line):
    return (len(line) - len(line.lstrip(" "))) // 4


def test_pairs_depend_on_the_seed_only(task):
    pairs = task.pairs("test", drawn.MOST, seed=drawn.SEED)
    assert drawn.pairs(task.name, "test") == pairs
    assert task.pairs("test", 30, seed=drawn.SEED) == pairs[:30]
    assert task.pairs("test", 100, seed=6) != pairs


def test_cut_takes_a_program_apart_at_its_marks():
    member = cut("print('a«')\n»x = 1\n")
    assert member == ("print('a", "')\n", "x = 1\n")
    assert member.program == "print('a')\nx = 1\n"


@dataclass(frozen=True)
class Few(DrawnTask):
    """Forty names; those that begin with a vowel validate."""

    def draw(self, rng, split):
        name = rng.choice("abcdefghij") + rng.choice("wxyz")
        return cut(f"if {name}«:\n»    pass\n"), cut(f"x = {name}«\n»")

    def belongs(self, prompt, split):
        return split == ("validation" if prompt[-2] in "aei" else "train")


def test_a_task_of_few_pairs_says_how_many_it_has():
    few = Few("few", "test", "a task of forty names")
    assert len(prompts(few.pairs("validation", 12, seed=0))) == 24
    with pytest.raises(InputError, match="^count: 29 is more than task 'few' .* 'train'; valid: at most 28$"):
        few.pairs("train", 29, seed=0)


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
