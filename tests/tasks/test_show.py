"""Tasks and pairs as text."""

import pytest

from sparse_jax.tasks.built_in import TASKS
from sparse_jax.tasks.find import find_task
from sparse_jax.tasks.own import pairs_task
from sparse_jax.tasks.pair import Pair, deciding
from sparse_jax.tasks.show import characters, list_tasks, show_pairs, tokens_of

PAIR = Pair("print('low tree", 'print("low tree', "')\n", '")\n')


def test_what_decides_is_what_is_left_without_the_common_ends():
    assert deciding("abcxde", "abyyde") == (slice(2, 4), slice(2, 4))
    assert deciding("for x", "x") == (slice(0, 4), slice(0, 0))
    assert deciding("aaa", "aa") == (slice(2, 3), slice(2, 2))


def test_plain_text_marks_what_decides_and_the_answer():
    shown = show_pairs([PAIR], characters, color=False)
    assert shown == "--- pair 1\nprint(‹'›low tree«')\\n»\n---\nprint(‹\"›low tree«\")\\n»"


def test_color_only_where_it_is_wanted(small_tokenizer):
    cut = tokens_of(small_tokenizer)
    assert "\x1b" not in show_pairs([PAIR], cut, color=False)
    colored = show_pairs([PAIR], cut, color=True)
    assert "\x1b[33m('\x1b[0mlow tree\x1b[1;32m')\\n\x1b[0m" in colored


def test_pieces_of_any_text_make_it_up_again(small_tokenizer):
    for text in ("  if x:\n        y", "naïve = 'é漢字'", " "):
        assert "".join(tokens_of(small_tokenizer)(text)) == text


def test_the_list_has_a_line_a_task():
    lines = list_tasks(TASKS.values()).splitlines()
    assert [line.split()[0] for line in lines] == list(TASKS)
    assert all(TASKS[line.split()[0]].about in line for line in lines)
    assert len({line.index(TASKS[line.split()[0]].about) for line in lines}) == 1
    assert "' in'  ':\\n'" in next(line for line in lines if line.startswith("for_while"))


def test_a_task_shows_itself_in_a_line():
    task, control = TASKS["for_while"], find_task("for_while.hashed")
    assert repr(task) == f"Task(for_while (loops): {task.about}; shifts words, nesting, distractors)"
    assert repr(control).startswith(f"Task(for_while.hashed (loops): hashed control: {task.about}; shifts")
    many = pairs_task([(f"a{i}", f"b{i}", "x", "y") for i in range(200)])
    assert repr(many) == "Task(pairs (own): 200 pairs)"


def test_a_task_of_a_function_shows_itself_in_a_line(tmp_path):
    (tmp_path / "mine.py").write_text('def choose(rng):\n    """one or two"""\n    return 1 / 0\n')
    task = find_task(f"{tmp_path}/mine.py:choose")
    assert repr(task) == "Task(choose (own): one or two)"
    shown = task._repr_html_()
    assert "<td>one or two</td>" in shown and "mine.py:3: ZeroDivisionError: division by zero</p>" in shown


def test_a_notebook_shows_what_a_task_is_about_its_splits_and_three_pairs():
    task = TASKS["single_double_quote"]
    shown = task._repr_html_()
    assert task.about in shown and "train, validation, test" in shown
    assert shown.count("<pre>") == shown.count("<mark>") == 6
    assert find_task("single_double_quote.nonsense")._repr_html_().count("<pre>") == 6
    for pair in task.pairs("train", 3, 0):
        assert pair.prompt.split("\n")[0].replace("'", "&#x27;")[:5] in shown


@pytest.mark.parametrize("count, columns", [(1, 2), (9, 6)])
def test_texts_of_pairs_are_quoted_and_few_are_enough(count, columns):
    task = pairs_task([(f"{i} <a", f"{i} <b", "&\n", "y") for i in range(count)])
    shown = task._repr_html_()
    assert shown.count("<pre>") == columns
    assert "<pre>0 &lt;<mark>a</mark><b>&amp;\\n</b></pre>" in shown
