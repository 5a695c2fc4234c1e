"""What the progress line says and when, against a clock that is moved by hand."""

import io

import pytest

from sparse_jax import progress as module
from sparse_jax.progress import Progress, finish_line


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def clock(monkeypatch):
    now = [1000.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    return now


def test_plain_lines_come_at_most_every_ten_seconds(clock, capsys):
    progress = Progress("train", 100, "steps")
    clock[0] += 8
    progress.update(40)
    clock[0] += 1
    progress.update(45)
    assert capsys.readouterr().err == ""
    clock[0] += 1
    progress.update(50, loss=1.5, nodes=12345)
    assert capsys.readouterr().err == (
        "train: 50/100 steps 50 % | 5 steps/s | 10 s left | loss 1.5 | nodes 12,345\n"
    )
    clock[0] += 9
    progress.update(95)
    assert capsys.readouterr().err == ""


def test_last_line_has_total_time_rate_and_figures(clock, capsys):
    progress = Progress("encode", 2000, "documents")
    clock[0] += 4
    progress.update(2000, tokens=7)
    progress.close()
    captured = capsys.readouterr()
    assert captured.err == "encode: 2,000 documents in 4.0 s (500 documents/s) | tokens 7\n"
    assert captured.out == ""


def test_work_that_stops_early_says_so(clock, capsys):
    progress = Progress("search", 10, "rounds")
    clock[0] += 1
    progress.update(4)
    progress.close()
    assert capsys.readouterr().err == "search: 4 of 10 rounds in 1.0 s (4 rounds/s)\n"


def test_resumed_work_is_rated_by_what_was_done_now(clock, capsys):
    progress = Progress("train", 100, "steps", start=80)
    progress.update(80)
    clock[0] += 20
    progress.update(90)
    assert "90/100 steps 90 % | 0.5 steps/s | 20 s left" in capsys.readouterr().err


def test_what_comes_before_the_first_update_is_no_part_of_the_rate(clock, capsys):
    progress = Progress("prune", 1000, "steps")
    clock[0] += 60  # the program is compiled
    progress.update(1)
    assert capsys.readouterr().err == "prune: 1/1,000 steps 0 %\n"
    clock[0] += 10
    progress.update(101)
    assert capsys.readouterr().err == "prune: 101/1,000 steps 10 % | 10 steps/s | 1 min 30 s left\n"
    clock[0] += 90
    progress.update(1000)
    progress.close()
    assert capsys.readouterr().err.endswith("prune: 1,000 steps in 2 min 40 s (6.25 steps/s)\n")


def test_nothing_to_do(clock, capsys):
    Progress("train", 5, "steps", start=5).close()
    assert capsys.readouterr().err == "train: 5 steps in 0.0 s\n"


def test_a_terminal_line_is_rewritten(clock, monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr(module.sys, "stderr", terminal)
    progress = Progress("train", 4, "steps")
    for done in range(1, 5):
        clock[0] += 0.15  # two updates fall into each 0.2 seconds
        progress.update(done)
    progress.close()
    text = terminal.getvalue()
    assert text.count("\n") == 1 and text.endswith("\n")
    lines = text.rstrip("\n").split("\r")[1:]
    assert [line[:10] for line in lines] == ["train: 2/4", "train: 4/4", "train: 4 s"]
    assert all(line.endswith("\x1b[K") for line in lines)


def test_an_unfinished_terminal_line_is_finished_once(clock, monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr(module.sys, "stderr", terminal)
    progress = Progress("train", 4, "steps")
    finish_line()
    assert terminal.getvalue() == ""
    clock[0] += 1
    progress.update(1)
    finish_line()
    finish_line()
    print("error: disk full", file=terminal)
    assert terminal.getvalue().endswith("\x1b[K\nerror: disk full\n")
    progress.close()
    closed = terminal.getvalue()
    finish_line()
    assert terminal.getvalue() == closed


def test_a_plain_line_needs_no_finish(clock, capsys):
    progress = Progress("train", 4, "steps")
    clock[0] += 10
    progress.update(1)
    finish_line()
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.25, "0.2 s"), (59, "59 s"), (60, "1 min 00 s"), (185, "3 min 05 s"), (7260, "2 h 01 min")],
)
def test_durations(clock, capsys, seconds, text):
    progress = Progress("x", 1, "things")
    clock[0] += seconds
    progress.close()
    assert capsys.readouterr().err == f"x: 0 of 1 things in {text}\n"
