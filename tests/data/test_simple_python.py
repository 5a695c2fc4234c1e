"""The generated programs: valid, reproducible, varied, and rich in what the tasks ask about."""

import ast
import re
from random import Random

import pytest

from sparse_jax.data.programs.names import scope
from sparse_jax.data.simple_python import STATEMENTS, program, programs, statement
from sparse_jax.tasks.built_in import TASKS

COUNT = 3000

# For each task, what it asks about as it stands in whole programs: a pattern for either answer.
IDIOMS = {
    "single_double_quote": (r"\('[\w ]+'\)\n", r'\("[\w ]+"\)\n'),
    "fstring_brace": (r"\(f(['\"])[\w ]+ \{\w+\}\1\)", r"\((['\"])[\w ]+\1\)\n"),
    "bracket_counting": (r"= \[\[.*\]\]\n", r"\w = \[[^\[\n]*\]\n"),
    "bracket_brace": (r"= \{\"?\w+\"?:", r"= \[\"?\w+\"?,"),
    "set_or_string": (
        r"^ *(\w+) = set\(\)\n(?:.*\n)? *\1\.add\(",
        r"^ *(\w+) = \"\"\n(?:.*\n)? *\1 \+= ",
    ),
    "set_or_string_fixedvarname": (r"^ *current\.add\(", r"^ *current \+= "),
    "var_swap": (r"^ *(\w+), (\w+) = \2, \1\n",),
    "final_kwarg": (r"def \w+\(\w+, \w+=None, \w+=None\):", r"def \w+\(\w+, \w+, \w+\):"),
    "lambda_func": (r"= lambda \w+:", r"def \w+\((self)?\):"),
    "class_init": (r"^        self\.(\w+) = \1\n",),
    "if_ternary": (r"^ *if .*:\n", r" = \w+ if .* else "),
    "if_equals": (r"^ *if \w+ == ", r"^ *\w+ = "),
    "var_if": (r"^ *if \w+ [=<>!]+ \w+:\n", r"^ *\w+ = \w+ [=<>!]+ \w+\n"),
    "else_elif": (r"^ *else:\n", r"^( *)if (\w+) .*:\n.*\n\1elif \2 "),
    "for_while": (r"^ *for \w+ in ", r"^ *while (?!True)\w+:\n"),
    "enumerate_range": (r"for \w+, \w+ in enumerate\(", r"for \w+ in range\("),
    "indent_for": (r"^( +)for .*:\n\1    \w", r"^( +)\w+ = \w+ in \w+\n\1\w"),
    "while_return_true": (r"^( +)while True:\n\1    \w", r"^    ( +)return True\n    return"),
    "with_as": (r"with open\(.*\) as \w+:", r"\w+ = open\(.*\)\n"),
    "with_open": (r"open\(\"(input|source).*, \"r\"\)", r"open\(\"(output|result).*, \"w\"\)"),
}


@pytest.fixture(scope="module")
def texts() -> list[str]:
    return list(programs(seed=0, count=COUNT))


def test_every_program_parses_and_ends_with_a_line_end(texts):
    for text in texts:
        ast.parse(text)
        assert text.endswith("\n") and not text.endswith("\n\n")


@pytest.mark.parametrize("production", STATEMENTS, ids=lambda production: production.__name__)
def test_every_statement_parses_on_its_own(production):
    rng = Random(1)
    drawn = {"\n".join(production(rng, scope(rng))) for _ in range(100)}
    assert len(drawn) > 50
    for text in drawn:
        ast.parse(text)


def test_a_document_depends_on_seed_and_number_only(texts):
    assert list(programs(seed=0, count=3, start=100)) == texts[100:103]
    assert list(programs(seed=1, count=3)) != texts[:3]


def test_the_first_program_stays_the_same():
    """A change to the language changes this on purpose; nothing else (machine, version) may."""
    assert next(programs(seed=0, count=1)).splitlines()[:2] == [
        "def combine_writer(count):",
        '    handle = open("result_sensors.txt", "w")',
    ]


def test_hardly_any_program_occurs_twice(texts):
    assert len(set(texts)) > 0.99 * len(texts)


def test_lengths(texts):
    lengths = sorted(map(len, texts))
    assert lengths[COUNT // 20] > 150
    assert lengths[-COUNT // 20] < 800


@pytest.mark.parametrize("task", IDIOMS)
def test_every_idiom_is_in_several_percent_of_the_programs(texts, task):
    for pattern in IDIOMS[task]:
        found = sum(re.search(pattern, text, re.MULTILINE) is not None for text in texts)
        assert found > 0.03 * COUNT, f"{task}: {pattern} in {found} of {COUNT} programs"


def test_idioms_cover_every_task():
    assert IDIOMS.keys() == TASKS.keys()


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (r"\('[\w ]+'\)\n", r'\("[\w ]+"\)\n'),
        (r"\(f'", r'\(f"'),
        (r"= set\(\)", r'= ""'),
        (r'"r"\)', r'"w"\)'),
        (r"\w+=None, \w+=None\):", r"def \w+\((?!self)\w+, \w+, \w+\):"),
        (r"in enumerate\(", r"in range\("),
    ],
)
def test_choices_are_even(texts, one, other):
    first, second = (len(re.findall(pattern, "".join(texts))) for pattern in (one, other))
    assert 0.8 < first / second < 1.25


def test_names_are_many(texts):
    names = set(re.findall(r"[a-z]+_?[a-z]*", "".join(texts)))
    assert len(names) > 3000


def test_indentation_is_whole_levels(texts):
    indents = {len(line) - len(line.lstrip(" ")) for text in texts for line in text.splitlines()}
    assert {0, 4, 8, 12} <= indents and all(indent % 4 == 0 for indent in indents)


def test_program_and_statement_draw_from_the_generator_given():
    assert program(Random(3)) == program(Random(3))
    names = scope(Random(4))
    assert statement(Random(5), names) == statement(Random(5), names)
