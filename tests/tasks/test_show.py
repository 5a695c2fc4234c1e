"""Tasks and pairs as text."""

from sparse_jax.tasks.built_in import TASKS
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
