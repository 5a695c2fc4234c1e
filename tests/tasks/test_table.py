"""Every task against an answer worked out independently from the text of its prompts."""

import ast
import difflib
import re
import warnings

import pytest

from sparse_jax.inputs import InputError
from sparse_jax.tasks.built_in import TASKS, get_task
from tests.tasks import drawn

COUNT = 100


def last_line(prompt: str) -> str:
    return prompt.splitlines()[-1]


def quote_after_bracket(prompt: str) -> str:
    return prompt[prompt.rindex("(") + 1]


def brackets_left_open(prompt: str) -> int:
    return last_line(prompt).count("[") - last_line(prompt).count("]")


def open_quote(prompt: str) -> str:
    return '"' * (last_line(prompt).count('"') % 2)


def bound_value(prompt: str) -> str:
    """What the name that the prompt ends with was bound to."""
    name = re.search(r"(\w+)$", prompt).group(1)
    return re.findall(rf"^ *{name} = (.*)$", prompt, re.MULTILINE)[-1]


def indentation(prompt: str, levels: int) -> str:
    """The spaces before the next line but one: the tokenizer joins the last to the word after it."""
    line = last_line(prompt)
    return " " * (len(line) - len(line.lstrip()) + 4 * levels - 1)


def stored_field(prompt: str) -> str:
    field = re.search(r"self\.(\w+) =$", prompt).group(1)
    assert re.search(rf"__init__\(.*\b{field}\b.*\)", prompt)
    return f" {field}"


def end_of_call(prompt: str) -> str:
    close = open_quote(prompt) + ")"
    return close if last_line(prompt).lstrip().startswith("with ") else f"{close}\n"


def file_mode(prompt: str) -> str:
    stem = re.findall(r'open\("([a-z]+)[_.]', prompt)[-1]
    modes = dict.fromkeys(("input", "source", "config", "settings", "template", "request"), "r")
    modes |= dict.fromkeys(("output", "result", "report", "log", "summary", "backup"), "w")
    return modes[stem]


ORACLES = {
    "single_double_quote": lambda p: quote_after_bracket(p) + ")\n",
    "fstring_brace": lambda p: " {" if "(f" in last_line(p) else quote_after_bracket(p) + ")\n",
    "bracket_counting": lambda p: "]" * brackets_left_open(p) + "\n",
    "bracket_brace": lambda p: open_quote(p) + (":" if "{" in last_line(p) else ","),
    "set_or_string": lambda p: {"set()": ".add", '""': " +="}[bound_value(p)],
    "set_or_string_fixedvarname": lambda p: {"set()": ".add", '""': " +="}[bound_value(p)],
    "var_swap": lambda p: " " + last_line(p).split(",")[0].strip(),
    "final_kwarg": lambda p: "=None" if "=None" in last_line(p) else "):\n",
    "lambda_func": lambda p: (
        ":" if "lambda" in last_line(p) else "(self" if last_line(p).startswith(" ") else "():\n"
    ),
    "class_init": stored_field,
    "if_ternary": lambda p: " else" if " = " in last_line(p) else ":\n",
    "if_equals": lambda p: " ==" if " if " in f" {last_line(p)}" else " =",
    "var_if": lambda p: "\n" if " = " in last_line(p) else ":\n",
    "else_elif": lambda p: ":\n" if p.endswith("else") else " " + re.findall(r"\bif (\w+)", p)[-1],
    "for_while": lambda p: " in" if "for" in last_line(p).split() else ":\n",
    "enumerate_range": lambda p: " enumerate" if "," in last_line(p) else " range",
    "indent_for": lambda p: indentation(p, 1 if p.endswith(":\n") else 0),
    "while_return_true": lambda p: indentation(p, 1 if p.endswith(":\n") else -1),
    "with_as": end_of_call,
    "with_open": file_mode,
}

# One prompt of each task and its answer, written by hand.
EXAMPLES = {
    "single_double_quote": ("count = 3\nprint('low tree", "')\n"),
    "fstring_brace": ('x = 1\nprint(f"low tree', " {"),
    "bracket_counting": ("a, b = [[1, 2], [3", "]]\n"),
    "bracket_brace": ('rows = {"tree', '":'),
    "set_or_string": ('word = ""\nfor x in items:\n    word', " +="),
    "set_or_string_fixedvarname": ("current = set()\ncurrent", ".add"),
    "var_swap": ("def f(a, b, c):\n    c, b = b,", " c"),
    "final_kwarg": ("def load(path, mode=None, size", "=None"),
    "lambda_func": ("class A:\n    def price", "(self"),
    "class_init": ("class A:\n    def __init__(self, x, y):\n        self.y =", " y"),
    "if_ternary": ("y = x if x > 3", " else"),
    "if_equals": ("x = 1\nif x", " =="),
    "var_if": ("if x == 3", ":\n"),
    "else_elif": ("if x > 3:\n    y = 1\nelif", " x"),
    "for_while": ("while x", ":\n"),
    "enumerate_range": ("for i, x in", " enumerate"),
    "indent_for": ("def f(xs):\n    for x in xs:\n", " " * 7),
    "while_return_true": ("def f(x):\n    if x > 3:\n        return True\n", " " * 3),
    "with_as": ('f = open("input.txt", "r', '")\n'),
    "with_open": ('with open("log_items.txt", "', "w"),
}


# Tasks whose wrong answer no Python program has there; in the others it would mean something else.
GRAMMAR_DECIDES = (
    "single_double_quote",
    "bracket_counting",
    "bracket_brace",
    "lambda_func",
    "if_ternary",
    "if_equals",
    "var_if",
    "else_elif",
    "indent_for",
    "while_return_true",
    "with_as",
)


@pytest.fixture(params=TASKS, scope="module")
def task(request):
    return TASKS[request.param]


@pytest.fixture(params=("train", "shifted", "words", "nesting", "distractors"), scope="module")
def pairs(request, task):
    return drawn.pairs(task.name, request.param, COUNT)


def test_twenty_tasks_each_with_an_oracle_and_an_example():
    assert len(TASKS) == 20
    assert TASKS.keys() == ORACLES.keys() == EXAMPLES.keys()


def test_the_oracle_knows_the_example(task):
    prompt, answer = EXAMPLES[task.name]
    assert ORACLES[task.name](prompt) == answer


def test_the_oracle_gives_the_answer_of_both_members(task, pairs):
    for pair in pairs:
        assert ORACLES[task.name](pair.prompt) == pair.answer
        assert ORACLES[task.name](pair.counterfactual) == pair.wrong
        assert pair.answer != pair.wrong


def test_every_prompt_with_its_answer_begins_a_program_that_parses(task):
    for members in task.members("validation", COUNT, seed=1):
        for member in members:
            ast.parse(member.program)
            assert member.program.startswith(member.prompt + member.completion)


@pytest.mark.parametrize("name", GRAMMAR_DECIDES)
def test_python_refuses_the_wrong_answer(name):
    """The other member's answer and rest after a prompt: no program."""
    for one, other in get_task(name).members("validation", COUNT, seed=2):
        for here, there in ((one, other), (other, one)):
            with pytest.raises(SyntaxError), warnings.catch_warnings():
                warnings.simplefilter("ignore")  # the parser may remark on a call of a literal
                ast.parse(here.prompt + there.completion + there.rest)


def test_members_differ_in_what_decides_only(task, pairs):
    """Words and marks inserted, deleted or exchanged, in few places; a swap exchanges three names."""
    for pair in pairs:
        one, other = (re.findall(r"\n *|\w+|[^\w ]", text) for text in (pair.prompt, pair.counterfactual))
        codes = difflib.SequenceMatcher(None, one, other, autojunk=False).get_opcodes()
        changes = [code for code in codes if code[0] != "equal"]
        assert 1 <= len(changes) <= (3 if task.name == "var_swap" else 2), pair
        assert all(max(end - start, to - since) <= 4 for _, start, end, since, to in changes), pair


def test_prompts_are_varied(pairs):
    words = {word for pair in pairs for word in re.findall(r"[A-Za-z]{3,}", pair.prompt)}
    assert len(words) > 120


def test_get_task_names_the_nearest():
    assert get_task("var_if") is TASKS["var_if"]
    with pytest.raises(InputError, match="task: 'clas_init' is unknown; did you mean 'class_init'"):
        get_task("clas_init")
