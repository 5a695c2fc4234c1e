"""Tasks of the user's own, from files and functions, and the one way to find any task."""

import json
import sys

import numpy as np
import pytest

from sparse_jax.inputs import InputError
from sparse_jax.tasks.built_in import TASKS
from sparse_jax.tasks.encode import encode_pairs
from sparse_jax.tasks.find import as_task, find_task, find_tasks
from sparse_jax.tasks.own import load_function, pairs_task, read_task
from sparse_jax.tasks.pair import Pair

FUNCTIONS = '''
from sparse_jax.tasks.pair import Pair

def marked(rng):
    """For or while."""
    name = f"{rng.choice('abcdefgh')}{rng.randrange(100)}"
    return f"for {name}« in» xs:\\n    pass\\n", f"while {name}«:\\n»    pass\\n"

def whole(rng):
    one, other = (member.partition("«") for member in marked(rng))
    return Pair(one[0], other[0], " in", ":\\n")

def number(rng):
    return 3

def unmarked(rng):
    return "for x in", "while x:"

def equal(rng):
    return Pair("x", "x", "a", "b")

def broken(rng):
    return rng.nothing
'''


def record(number: int, **changes) -> dict:
    pair = {"prompt": f"for n{number}", "counterfactual": f"while n{number}", "answer": " in", "wrong": ":\n"}
    return pair | changes


def write(path, *lines) -> str:
    path.write_text("".join(f"{line if isinstance(line, str) else json.dumps(line)}\n" for line in lines))
    return str(path)


@pytest.fixture
def python(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(FUNCTIONS)
    return str(path)


def test_a_file_is_split_and_every_pair_is_used_once(tmp_path, small_tokenizer):
    task = find_task(write(tmp_path / "mine.jsonl", *(record(n) for n in range(400)), ""))
    assert (task.name, task.family) == ("mine", "own")
    found = {}
    for split in task.splits:
        with pytest.raises(InputError, match="count: 401 is more than task 'mine' has in split") as caught:
            task.pairs(split, 401, seed=0)
        size = int(str(caught.value).split("at most ")[1].split()[0])
        found[split] = task.pairs(split, size, seed=0)
        assert set(task.pairs(split, size, seed=1)) == set(found[split])
        assert task.pairs(split, 5, seed=1) == task.pairs(split, np.int32(5), seed=np.int64(1))
    assert sorted(map(len, found.values()))[-1] == len(found["train"])
    assert 160 < len(found["train"]) < 240 and 70 < len(found["test"]) < 130
    everything = [pair for pairs in found.values() for pair in pairs]
    assert len(everything) == 400 and set(everything) == {Pair(**record(n)) for n in range(400)}
    encoded = task.encode("test", 20, 0, small_tokenizer, 32)
    expected = encode_pairs(task.pairs("test", 20, 0), small_tokenizer, 32, "mine")
    np.testing.assert_array_equal(encoded.tokens, expected.tokens)
    with pytest.raises(InputError, match="split: 'shifted' is unknown; valid: test, train, validation"):
        task.pairs("shifted", 1, 0)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{not json", r"mine.jsonl:2: not JSON \(.* at column 2\)"),
        ("[1]", "mine.jsonl:2: list; valid: an object with prompt, counterfactual, answer, wrong"),
        (record(1, anser=" in"), "mine.jsonl:2: field 'anser' is unknown; did you mean 'answer'"),
        (record(1, answer=3), "mine.jsonl:2: answer is a int; valid: a text"),
        ({"prompt": "x", "answer": "y"}, "mine.jsonl:2: field 'counterfactual' is missing"),
        (record(1, wrong=""), "mine.jsonl:2: wrong is empty"),
        (record(1, wrong=" in"), "mine.jsonl:2: answer and wrong are both ' in'"),
        (record(1, counterfactual="for n1"), "mine.jsonl:2: prompt and counterfactual are both 'for n1'"),
        (record(0), "mine.jsonl:2: 'for n0' is on line 1 too"),
        (record(1, counterfactual="for n0"), "mine.jsonl:2: 'for n0' is on line 1 too"),
    ],
)
def test_lines_that_are_no_pairs_are_named(tmp_path, line, message):
    with pytest.raises(InputError, match=message):
        read_task(write(tmp_path / "mine.jsonl", record(0), line))


def test_files_that_cannot_be_read_are_named(tmp_path):
    with pytest.raises(InputError, match="cannot read '.*nothing.jsonl'"):
        find_task(str(tmp_path / "nothing.jsonl"))
    with pytest.raises(InputError, match="empty.jsonl: no pairs; valid: a JSON object with prompt"):
        find_task(write(tmp_path / "empty.jsonl"))
    (tmp_path / "bytes.jsonl").write_bytes(b"\xff\xfe")
    with pytest.raises(InputError, match="cannot read '.*bytes.jsonl'"):
        find_task(str(tmp_path / "bytes.jsonl"))


@pytest.mark.parametrize("name", ["marked", pytest.param("whole", marks=pytest.mark.slow)])
def test_a_function_draws_distinct_pairs_in_disjoint_splits(python, name, small_tokenizer):
    task = find_task(f"{python}:{name}")
    assert task.name == name and task.family == "own"
    found = {split: task.pairs(split, 40, seed=0) for split in task.splits}
    prompts = [{text for p in pairs for text in (p.prompt, p.counterfactual)} for pairs in found.values()]
    assert all(len(texts) == 80 for texts in prompts)
    assert not any(prompts[i] & prompts[j] for i in range(3) for j in range(i))
    assert task.pairs("test", 40, seed=0) == found["test"]
    answers = [pair.answer for pair in found["train"]]
    assert 8 < answers.count(" in") < 32 and set(answers) == {" in", ":\n"}
    assert task.encode("test", 40, 0, small_tokenizer, 32).tokens.shape[:2] == (40, 2)


def test_a_function_that_draws_no_pairs_is_named_with_its_line(python):
    line = {name: i for i, text in enumerate(FUNCTIONS.split("\n"), 1) for name in [text[4:].split("(")[0]]}
    for name, message in (
        ("number", "returned 3; valid: a Pair, or two texts"),
        ("unmarked", "returned .*'for x in'.*; valid: a Pair, or two texts"),
        ("equal", "prompt and counterfactual are both 'x'"),
    ):
        with pytest.raises(InputError, match=rf"mine.py:{line[name]}: {name}:? {message}"):
            find_task(f"{python}:{name}").pairs("train", 1, 0)
    with pytest.raises(InputError, match=rf"mine.py:{line['broken'] + 1}: AttributeError: .*nothing"):
        find_task(f"{python}:broken").pairs("train", 1, 0)


def test_python_files_that_do_not_serve_are_named(tmp_path, python):
    with pytest.raises(InputError, match="has no function 'markd'; did you mean 'marked'"):
        load_function(python, "markd")
    with pytest.raises(InputError, match="cannot read '.*none.py'"):
        find_task(f"{tmp_path}/none.py:f")
    (tmp_path / "wrong.py").write_text("x = 1\ndef f(:\n")
    with pytest.raises(InputError, match="wrong.py:2: SyntaxError"):
        find_task(f"{tmp_path}/wrong.py:f")
    (tmp_path / "fails.py").write_text("x = 1\ny = z\n")
    with pytest.raises(InputError, match="fails.py:2: NameError: name 'z' is not defined"):
        find_task(f"{tmp_path}/fails.py:f")


def test_one_entry_finds_every_kind_of_task(tmp_path, python):
    assert find_task("var_swap") is TASKS["var_swap"]
    assert find_task("var_swap.constant").name == "var_swap.constant"
    own = write(tmp_path / "mine.jsonl", *(record(n) for n in range(20)))
    assert find_task(f"{own}.shuffled").name == "mine.shuffled"
    assert find_task(f"{python}:marked.nonsense").name == "marked.nonsense"
    for spec in (python, "tasks/mine.json"):
        with pytest.raises(InputError, match="is not a task; valid: a name, NAME.CONTROL, a .jsonl file"):
            find_task(spec)
    with pytest.raises(InputError, match="did you mean 'var_swap'"):
        find_task("var_swp")


def test_a_path_is_a_task_and_what_names_none_is_refused(tmp_path):
    path = tmp_path / "mine.jsonl"
    write(path, *(record(n) for n in range(20)))
    assert as_task(path) == as_task(str(path))
    for wrong in (None, 3, record):
        with pytest.raises(InputError, match="^task: .* is not valid; valid: a name, .*, or pairs$"):
            as_task(wrong)


def test_a_byte_order_mark_is_no_part_of_a_file(tmp_path):
    path = tmp_path / "mine.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + json.dumps(record(0)).encode())
    assert read_task(str(path)).source == (Pair(**record(0)),)
    code = tmp_path / "mine.py"
    code.write_bytes(b"\xef\xbb\xbf" + FUNCTIONS.encode())
    assert find_task(f"{code}:marked").pairs("train", 1, 0)


@pytest.mark.parametrize("field", ["prompt", "counterfactual", "answer", "wrong"])
def test_half_a_surrogate_pair_is_named_wherever_pairs_come_from(tmp_path, field):
    said = f"{field} has half a surrogate pair at character 1; valid: text"
    bad = record(1, **{field: "x\ud800"})
    with pytest.raises(InputError, match=f"mine.jsonl:2: {said}"):
        read_task(write(tmp_path / "mine.jsonl", record(0), bad))
    with pytest.raises(InputError, match=rf"pairs\[0\]: {said}"):
        pairs_task([bad])
    code = tmp_path / "mine.py"
    code.write_text(f"from sparse_jax.tasks.pair import Pair\ndef f(rng):\n    return Pair(**{ascii(bad)})\n")
    with pytest.raises(InputError, match=f"mine.py:2: f: {said}"):
        find_task(f"{code}:f").pairs("train", 1, 0)


@pytest.mark.parametrize("line", ["[" * 100_000, f'{{"prompt": {"9" * 5000}}}'])
def test_json_that_no_reader_takes_is_named(tmp_path, line):
    with pytest.raises(InputError, match="mine.jsonl:2: unusable JSON") as caught:
        read_task(write(tmp_path / "mine.jsonl", record(0), line))
    assert "\n" not in str(caught.value)


def test_a_function_may_import_what_lies_beside_its_file(tmp_path):
    code = "import words\ndef f(rng):\n    import late\n    return words.draw(rng, late.END)\n"
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "mine.py").write_text(code)
        (tmp_path / name / "late.py").write_text(f"END = ' {name}'\n")
        (tmp_path / name / "words.py").write_text(
            "from sparse_jax.tasks.pair import Pair\n"
            "def draw(rng, end):\n"
            f"    return Pair(f'{name}{{rng.random()}}', f'x{{rng.random()}}', end, '!')\n"
        )
    before, path = set(sys.modules), list(sys.path)
    tasks = [find_task(f"{tmp_path}/{name}/mine.py:f") for name in ("a", "b")]
    for _ in range(2):  # each its own, though the modules have the same names
        for name, task in zip("ab", tasks):
            (pair,) = task.pairs("train", 1, 0)
            assert {pair.answer, pair.wrong} == {f" {name}", "!"}
            assert {pair.prompt[0], pair.counterfactual[0]} == {name, "x"}
    assert sys.path == path and not {"words", "late"} & (set(sys.modules) - before)


def test_a_file_that_ends_the_program_is_named(tmp_path):
    (tmp_path / "mine.py").write_text("import sys\nsys.exit(0)\n")
    with pytest.raises(InputError, match="mine.py:2: SystemExit"):
        find_task(f"{tmp_path}/mine.py:f")


def test_studies_refuse_two_tasks_of_one_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        write(tmp_path / folder / "mine.jsonl", *(record(n) for n in range(20)))
    assert [task.name for task in find_tasks(["a/mine.jsonl", "for_while"])] == ["mine", "for_while"]
    both = "^tasks: 'a/mine.jsonl' and 'b/mine.jsonl' are both named 'mine'; valid: tasks of different names$"
    with pytest.raises(InputError, match=both):
        find_tasks(["a/mine.jsonl", "for_while", "b/mine.jsonl"])
    with pytest.raises(InputError, match="^of: 'for_while' is given 2 times; valid: each once$"):
        find_tasks(["for_while", "for_while"], "of")
