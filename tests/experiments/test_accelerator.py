"""Cases are measured once, within some minutes, and what fails stops nothing; every part runs on a CPU."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from experiments.bench import accelerator, cases, device_tests, kernel_check, lane_steps, wide_pair
from experiments.bench.accelerator_parts import EXTENTS, PARTS, all_cases
from experiments.bench.case_table import format_rows, machine
from experiments.bench.cases import Case, run_cases
from sparse_jax.inputs import InputError
from sparse_jax.models.formats import load_model
from sparse_jax.runtime.preemption import Preempted
from sparse_jax.training import loop
from sparse_jax.training.config import run_config
from tests.programs import made_once

ROOT = Path(__file__).parents[2]
MACHINE = {"devices": "1 x imagined", "cpu": "x", "code": "a"}


class Clock:
    """Seconds that only pass in cases."""

    def __init__(self):
        self.now, self.order = 0.0, []

    def __call__(self):
        return self.now

    def case(self, name, seconds=60.0, part="p", rows=({"found": 1.23456},), **given):
        def measure():
            self.order.append(name)
            self.now += seconds
            return rows

        return Case(part, {"name": name}, measure, **given)


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def run(tmp_path, clock):
    """A function that measures cases for some minutes of the clock."""
    return lambda cases, minutes=9, about=MACHINE: run_cases(
        cases, tmp_path / "rows.jsonl", minutes, about, clock
    )


def test_a_case_is_measured_once_on_a_machine(run, clock, tmp_path):
    cases = [clock.case("a"), clock.case("b", rows=[{"x": 1}, {"x": 2}])]
    first, again = run(cases), run(cases)
    assert clock.order == ["a", "b"] and again == first == (
        (),
        (),
        tuple(json.loads(line) for line in (tmp_path / "rows.jsonl").read_text().splitlines()),
    )
    assert [row.get("x") for row in first.rows] == [None, 1, 2]
    assert first.rows[0] == {
        "part": "p",
        "name": "a",
        "found": 1.235,
        "seconds": 60,
        **MACHINE,
        "key": cases[0].key(MACHINE),
    }
    run(cases, about={**MACHINE, "code": "b"})
    run(cases, about={**MACHINE, "devices": "2 x imagined"})
    assert clock.order == ["a", "b"] * 3


def test_a_row_is_on_the_disk_before_the_next_case_starts(run, clock, tmp_path):
    def look():
        seen.extend(json.loads(line)["name"] for line in (tmp_path / "rows.jsonl").read_text().splitlines())
        raise KeyboardInterrupt

    seen = []
    with pytest.raises(KeyboardInterrupt):
        run([clock.case("a"), clock.case("b"), Case("p", {"name": "c"}, look)])
    assert seen == ["a", "b"]


def test_no_row_renames_its_case(run, clock):
    (row,) = run([clock.case("a", rows=[{"part": 1, "name": "b", "seconds": 0, "found": 2}])]).rows
    assert (row["part"], row["name"], row["seconds"], row["found"]) == ("p", "a", 60, 2)


def test_a_line_that_a_kill_cut_off_is_measured_again(run, clock, tmp_path):
    path = tmp_path / "rows.jsonl"
    cases = [clock.case("a"), clock.case("b")]
    run(cases)
    path.write_text(path.read_text()[:-20])
    assert [row["name"] for row in run(cases).rows] == ["a", "b"]
    assert clock.order == ["a", "b", "b"]


def test_a_case_that_would_take_too_long_is_not_started_and_others_are(run, clock):
    cases = [clock.case(name, 200.0) for name in "abc"]
    cases += [clock.case("d", 10.0, part="q"), clock.case("e", 10.0, resumes=True)]
    found = run(cases)  # of 540 s, 140 are left after two
    assert clock.order == ["a", "b", "d", "e"]
    assert [case.settings["name"] for case in found.left] == ["c"]
    assert run(cases).left == () and clock.order[-1] == "c"


def test_nothing_is_started_after_the_end(run, clock):
    found = run([clock.case("a", 600.0), clock.case("b", part="q"), clock.case("c", resumes=True)])
    assert clock.order == ["a"] and len(found.left) == 2


def test_how_long_another_machine_took_says_nothing(run, clock):
    run([clock.case("a", 500.0)])
    run([clock.case("b", 10.0)], minutes=1, about={**MACHINE, "devices": "2 x imagined"})
    assert clock.order == ["a", "b"]


@pytest.mark.parametrize("error", [ValueError("no such number\nat all"), MemoryError("RESOURCE_EXHAUSTED")])
def test_what_fails_has_a_row_with_its_error_and_the_others_go_on(run, clock, error, capsys):
    def fail():
        clock.order.append("bad")
        raise error

    bad = Case("p", {"name": "bad"}, fail)
    told = clock.case("told", rows=[{"error": "other bits"}])
    found = run([bad, told, clock.case("good")])
    assert clock.order == ["bad", "told", "good"] and found.left == ()
    assert [case.settings["name"] for case in found.failed] == ["bad", "told"]
    assert found.rows[0]["error"] == f"{type(error).__name__}: {str(error).splitlines()[0]}"
    assert run([bad, told]).failed == (bad, told) and len(clock.order) == 3
    assert "Traceback" in capsys.readouterr().err


def endless():
    while True:
        time.sleep(0.01)


def test_a_case_is_stopped_at_the_end_and_what_had_all_the_time_has_failed(tmp_path):
    quick = Case("p", {"name": "quick"}, lambda: [{}])
    late, alone = Case("q", {"name": "late"}, endless), Case("q", {"alone": 1}, endless)
    before = signal.getsignal(signal.SIGTERM)
    found = run_cases([quick, late, quick], tmp_path / "rows.jsonl", 0.005, MACHINE)
    assert found.left == (late,) and found.failed == ()
    found = run_cases([alone, late], tmp_path / "rows.jsonl", 0.005, MACHINE)
    assert found.left == (late,) and found.failed == (alone,)
    assert found.rows[0]["error"] == "not done after 0.005 minutes"
    lasting = alone._replace(settings={"lasting": 1}, resumes=True)
    assert run_cases([lasting], tmp_path / "rows.jsonl", 0.005, MACHINE).left == (lasting,)
    assert signal.getsignal(signal.SIGTERM) == before


def test_sigterm_of_others_ends_it(run, clock):
    stopped = Case("p", {"name": "stopped"}, lambda: os.kill(os.getpid(), signal.SIGTERM) or endless())
    with pytest.raises(Preempted):
        run([clock.case("a"), stopped, clock.case("b")])
    assert run([stopped._replace(measure=lambda: [{}])]).left == ()
    assert clock.order == ["a"]


def test_the_table_has_every_kind_of_case_with_its_columns(run, clock):
    rows = run([clock.case("a"), clock.case("b", part="q", rows=[{"x": "1|2"}, {"y": None}])]).rows
    text = format_rows([{**row, "jax": "0", "python": "3"} for row in rows])
    assert "## p\n\n| name | found | seconds |\n|---|---|---|\n| a | 1.235 | 60 |\n" in text
    assert (
        "## q\n\n| name | x | seconds | y |\n|---|---|---|---|\n| b | 1/2 | 60 | - |\n| b | - | 60 | - |\n"
        in text
    )
    assert "nothing is measured" in format_rows([])


def given(monkeypatch, tmp_path, **flags):
    values = {"MINUTES": 1.0, "OUT": str(tmp_path / "out"), "NAMES": ["kernel"], "SIZE": "tiny", **flags}
    for name, value in values.items():
        monkeypatch.setattr(accelerator, name, SimpleNamespace(value=value))


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ({"NAMES": ["kernel", "step"]}, "--part: 'step' is unknown; did you mean 'steps'"),
        ({"NAMES": []}, r"--part: \[\] is not valid; valid: one or more of kernel"),
        ({"MINUTES": 0.0}, "--minutes: 0.0 is not valid; valid: more than 0"),
        ({"MINUTES": float("inf")}, "--minutes: inf is not valid"),
        ({"MINUTES": float("nan")}, "--minutes: nan is not valid"),
        ({"OUT": "/proc/nowhere/out"}, "/proc/nowhere/out/rows.jsonl: cannot be written"),
    ],
)
def test_wrong_flags_are_named_before_anything_runs(monkeypatch, tmp_path, flags, said):
    given(monkeypatch, tmp_path, **flags)
    monkeypatch.setattr(accelerator, "run_cases", lambda *_: pytest.fail("something ran"))
    with pytest.raises(InputError, match=said):
        accelerator.main()


def test_the_status_says_whether_something_is_left_or_has_failed(monkeypatch, tmp_path, capsys):
    def status(*cases):
        monkeypatch.setattr(accelerator, "all_cases", lambda *_: cases)
        with pytest.raises((SystemExit, Preempted)) as ended:
            accelerator.main()
        return ended.value.code if ended.type is SystemExit else str(ended.value)

    given(monkeypatch, tmp_path)
    good, bad = (Case("p", {"name": name}, lambda name=name: [{name: 1}]) for name in ("found", "error"))
    assert status(good) == 0
    assert status(good, bad) == 1 and "failed: p name=error" in capsys.readouterr().err
    given(monkeypatch, tmp_path, MINUTES=1e-9)
    left = Case("p", {"name": "left"}, endless)
    assert (
        status(good, left, left) == "left: p name=left and 1 more cases; the same command goes on with them"
    )
    assert "| found | 1 |" in (tmp_path / "out" / "table.md").read_text()


def test_the_parts_are_in_the_order_of_their_worth_and_their_cases_are_told_apart(tmp_path):
    assert list(PARTS) == ["kernel", "steps", "lanes", "pair", "tests"]
    keys = {}
    for size in EXTENTS:
        cases = all_cases(list(reversed(PARTS)), tmp_path, size)
        parts = [case.part for case in cases]
        assert list(dict.fromkeys(parts)) == list(PARTS)
        about = machine(size)
        keys[size] = {case.key(about) for case in cases}
        assert len(keys[size]) == len(cases)
    assert not keys["full"] & keys["tiny"]
    assert [case.settings["lanes"] for case in all_cases(["lanes"], tmp_path, "full")][-1] == 256
    assert {case.settings["size"] for case in all_cases(["steps"], tmp_path, "full")} == {"S", "M", "L", "XL"}


def test_the_wide_pair_is_as_the_small_one_but_wider_and_has_dense_partners(tmp_path):
    pair = wide_pair.wide_pair(tmp_path, "full")
    sparse = pair.runs["sparse"]
    assert (sparse.model.d_model, sparse.model.d_mlp) == (512, 2048)
    assert (sparse.sparsity.fraction, sparse.sparsity.min_per_channel) == (1 / 256, 2)
    assert sparse.training.steps == 9000 and len(pair.tasks) == 20
    dense = {name: run.model.d_model for name, run in pair.runs.items() if name != "sparse"}
    assert dense and all(int(name.split("_")[1]) == width for name, width in dense.items())


def test_the_partner_has_the_closest_loss(monkeypatch, tmp_path):
    losses = {"sparse": 1.70, "near": 1.68, "far": 1.75}
    monkeypatch.setattr(wide_pair, "validation_loss", lambda workdir: losses[workdir.name])
    pair = wide_pair.wide_pair(tmp_path, "tiny")
    assert wide_pair.Pair(tmp_path, dict.fromkeys(losses), pair.tasks, pair.recipe).partner == "near"


class Timer:
    """Goes off when it is told to."""

    made = ()

    def __init__(self, seconds, stop):
        self.stop, Timer.made = stop, (*Timer.made, self)

    def start(self):
        pass

    cancel = start


def test_training_that_is_stopped_at_the_end_is_saved_and_goes_on(monkeypatch, tmp_path, mapping):
    mapping["model"]["n_layers"] = 1
    config = run_config(mapping)

    def due(training, step):
        if step == 2:  # the signal is seen after the next one
            Timer.made[-1].stop()
        return real(training, step)

    real = loop._due
    monkeypatch.setattr(loop, "_due", due)
    monkeypatch.setattr(loop, "train_program", made_once(loop.train_program))
    monkeypatch.setattr(cases.threading, "Timer", Timer)
    training = list(wide_pair.Pair(tmp_path, {"sparse": config}, (), None).cases("pair"))
    found = run_cases(training, tmp_path / "rows.jsonl", 9, MACHINE)
    assert found.left == tuple(training) and found.rows == ()
    assert (tmp_path / "runs/sparse/checkpoints/3").exists()
    (row,) = run_cases(training, tmp_path / "rows.jsonl", 9, MACHINE).rows
    assert row["steps"] == config.training.steps and np.isfinite(row["validation"])
    metrics = (tmp_path / "models/sparse/metrics.jsonl").read_text().splitlines()
    steps = [json.loads(line)["step"] for line in metrics if "learning_rate" in line]
    assert steps == list(range(1, 1 + row["steps"]))
    assert load_model(tmp_path / "models/sparse").config == config.model


def test_the_kernel_is_compared_bit_for_bit(monkeypatch):
    for dtype in ("float32", "bfloat16"):
        row = kernel_check.check_kernel(16, dtype, [1, 30], 1)
        assert "error" not in row and row["entries"] == 31 * 16 * 3
    right = kernel_check.kernel.keep_largest
    # -0 for a 0 is as large, and is another bit
    monkeypatch.setattr(
        kernel_check.kernel, "keep_largest", lambda *given: (-right(*given)[0], right(*given)[1])
    )
    row = kernel_check.check_kernel(16, "float32", [30], 1)
    assert row["error"].startswith("other bits: kernel, 30 rows, k=1; kernel, 30 rows, k=4")


def test_rows_for_the_kernel_are_awkward():
    x = np.asarray(kernel_check._awkward_rows(60, 32))
    assert np.isnan(x).any() and np.isinf(x).any() and (np.abs(x) == np.float32(1e-45)).any()
    assert (x == 0).mean(axis=1).max() > 0.8


def test_lanes_are_measured_beside_one(monkeypatch, tmp_path):
    monkeypatch.setattr(lane_steps, "matmul_gflops", lambda: (1.0, 1.0))
    found = run_cases(all_cases(["lanes"], tmp_path, "tiny"), tmp_path / "rows.jsonl", 9, MACHINE)
    assert found.left == found.failed == ()
    assert [row["lanes"] for row in found.rows] == [1, 2]
    assert all(row["part"] == "lanes" and 0.01 < row["throughput_of_one"] < 100 for row in found.rows)


FILE = """
import os, pytest
pytestmark = pytest.mark.MARK
def test_one(): BODY
def test_two(): assert os.environ["JAX_DEFAULT_MATMUL_PRECISION"] == "highest"
def test_three(): pytest.skip("not here")
@pytest.mark.slow
def test_four(): assert False
"""


def test_tests_of_a_file_are_counted(monkeypatch, tmp_path):
    (tmp_path / "tests").mkdir()
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers =\n    accelerator\n    slow\n")
    for name, body in (("good", "pass"), ("bad", "1 / 0")):
        text = FILE.replace("MARK", device_tests.MARK).replace("BODY", body)
        (tmp_path / "tests" / f"test_{name}.py").write_text(text)
    (tmp_path / "tests" / "test_other.py").write_text("def test_it(): assert False")
    monkeypatch.setattr(device_tests, "ROOT", tmp_path)
    assert device_tests.marked_files() == ["tests/test_bad.py", "tests/test_good.py"]
    assert device_tests.run_file("tests/test_good.py") == [{"passed": 2, "failed": 0, "left_out": 1}]
    bad = {"passed": 1, "failed": 1, "left_out": 1, "error": "failed: test_one"}
    assert device_tests.run_file("tests/test_bad.py") == [bad]
    assert "error" in device_tests.run_file("tests/test_nowhere.py")[0]
    monkeypatch.setattr(device_tests, "ROOT", tmp_path / "nowhere")
    with pytest.raises(InputError, match="has none marked accelerator"):
        device_tests.marked_files()


@pytest.mark.slow
def test_every_part_is_measured_on_a_cpu(tmp_path):
    """As a command, all of it; about a minute of one core."""
    command = [sys.executable, "-m", "experiments.bench.accelerator", "--size=tiny", "--minutes=60"]
    command.append(f"--out={tmp_path}")
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=3600)
    assert done.returncode == 0, done.stderr
    rows = [json.loads(line) for line in (tmp_path / "rows.jsonl").read_text().splitlines()]
    assert {row["part"] for row in rows} == set(PARTS) and not any("error" in row for row in rows)
    by_variant = {row["variant"]: row for row in rows if row["part"] == "steps"}
    assert {"dense", "sparse", "annealing"} < set(by_variant)
    assert {"projection_share", "abs_top_k_share", "of_matmul", "peak_gb"} < set(by_variant["sparse"])
    assert [row["side"] for row in rows if "task" in row] == ["sparse", "dense"]
    again = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=3600)
    assert again.returncode == 0 and again.stdout == done.stdout
