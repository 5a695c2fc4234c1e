"""Training that is killed without warning and started again with the same command ends with the same bits."""

import functools
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest

from sparse_jax.models.workdir import read_workdir
from sparse_jax.runtime.checkpoint import newest_step
from sparse_jax.runtime.preemption import STATUS
from sparse_jax.runtime.writers import read_rows

ROOT = Path(__file__).parents[2]
SMALL = {
    "model.context": 32,
    "model.n_layers": 1,
    "sparsity.fraction": 0.5,
    "training.batch_size": 4,
    "training.log_every": 3,
    "training.evaluate_every": 7,
    "training.evaluation_windows": 4,
    "training.checkpoint_every": 5,
    "training.keep_every": 40,
}


class Command:
    """`python -m experiments.train` on a tiny model, whose programs are compiled once for all starts."""

    def __init__(self, shared, steps):
        flags = {**SMALL, "training.steps": steps, "data.directory": shared / "data"}
        self.arguments = [sys.executable, "-m", "experiments.train"]
        self.arguments += ["--config=experiments/configs/pretrain.py:size=tiny"]
        self.arguments += [f"--config.{name}={value}" for name, value in flags.items()]
        self.environment = {
            **os.environ,
            "JAX_PLATFORMS": "cpu",
            "JAX_NUM_CPU_DEVICES": "1",
            "JAX_COMPILATION_CACHE_DIR": str(shared / "compiled"),
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        }

    def start(self, workdir):
        return subprocess.Popen(
            [*self.arguments, f"--workdir={workdir}"],
            cwd=ROOT,
            env=self.environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )

    def finish(self, workdir):
        with self.start(workdir) as process:
            _, said = process.communicate(timeout=900)
        assert process.returncode == 0 and "Traceback" not in said, said


def half_written(workdir):
    """Checkpoints that are not whole yet: names and inodes, for a next attempt has the same name."""
    folder = workdir / "checkpoints"
    entries = os.scandir(folder) if folder.exists() else ()
    return {(entry.name, entry.inode()) for entry in entries if ".orbax-checkpoint-tmp" in entry.name}


def newly_written(workdir, left_over):
    return half_written(workdir) - left_over


def rows(workdir):
    path = workdir / "metrics.jsonl"
    return path.read_text().count("\n") if path.exists() else 0


def wait_for(happened, process, seconds=900):
    """Polls every 0.2 ms until `happened()` or the process has ended."""
    end = time.monotonic() + seconds
    while process.poll() is None and not happened():
        assert time.monotonic() < end
        time.sleep(2e-4)


def wait_until_it_runs(process, workdir):
    """Until the rows have changed twice: after a resume they are cut to those before, then one is added."""
    for _ in range(2):
        before = rows(workdir)
        wait_for(lambda before=before: rows(workdir) != before, process)


def wait_for_moment(kind, process, workdir, rng):
    """Returns at a random moment: of starting, of running, or of writing a checkpoint."""
    if kind == "starting":
        time.sleep(rng.uniform(0, 4))
    elif kind == "running":
        wait_until_it_runs(process, workdir)
        time.sleep(rng.uniform(0, 0.5))
    else:
        left_over = half_written(workdir)
        for _ in range(rng.randint(1, 4)):
            wait_for(functools.partial(newly_written, workdir, left_over), process)
            left_over = half_written(workdir)
        time.sleep(rng.uniform(0, 0.02))


def kill_again_and_again(command, workdir, kills, seed):
    """Starts and kills it so many times; says how many of the kills were inside a write."""
    rng, inside, steps = random.Random(seed), 0, []
    for number in range(kills):
        kind = ("writing", "running", "writing", "starting")[number % 4]
        left_over = half_written(workdir)
        with command.start(workdir) as process:
            wait_for_moment(kind, process, workdir, rng)
            before = process.poll()
            process.send_signal(signal.SIGKILL)
            said = process.stderr.read()
        assert before is None, f"it ended before kill {number}: {said}"
        inside += bool(newly_written(workdir, left_over))  # not what an earlier kill left
        steps.append((kind, *(sorted(int(p.name) for p in (workdir / "checkpoints").glob("[0-9]*[0-9]")))))
    print(f"{kills} kills, {inside} of them while a checkpoint was written; complete steps then: {steps}")
    return inside


def assert_same(workdir, other):
    """Parameters bit for bit, and all rows but their rates."""
    models = []
    for each in (workdir, other):
        model = read_workdir(each)
        assert newest_step(each) == model.run["training"]["steps"]
        models.append(model.params)
    assert jax.tree.all(jax.tree.map(lambda a, b: bool(np.array_equal(a, b)), *models))
    found, expected = (
        [{**row, "tokens_per_second": 0} for row in read_rows(each / "metrics.jsonl")]
        for each in (workdir, other)
    )
    assert json.dumps(found) == json.dumps(expected)
    steps = [row["step"] for row in found if "loss" in row]
    assert steps == sorted(set(steps)) and steps[-1] == newest_step(workdir)


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    return tmp_path_factory.mktemp("shared")


@pytest.mark.slow
def test_three_kills_and_a_preemption_change_nothing(shared, tmp_path):
    command = Command(shared, 100)
    command.finish(tmp_path / "whole")
    workdir = tmp_path / "killed"
    inside = kill_again_and_again(command, workdir, 3, seed=0)
    assert inside >= 1
    with command.start(workdir) as process:
        wait_until_it_runs(process, workdir)
        process.send_signal(signal.SIGTERM)
        said = process.stderr.read()
    assert process.returncode == STATUS == 75, said
    assert said.splitlines()[-1].startswith("error: SIGTERM: stopped after step ")
    command.finish(workdir)
    assert not half_written(workdir)
    assert_same(workdir, tmp_path / "whole")


@pytest.mark.slow
def test_twenty_kills_change_nothing(shared, tmp_path):
    command = Command(shared, 500)
    command.finish(tmp_path / "whole")
    began = time.monotonic()
    inside = kill_again_and_again(command, tmp_path / "killed", 20, seed=1)
    command.finish(tmp_path / "killed")
    print(f"{time.monotonic() - began:.0f} s")
    assert inside >= 5
    assert_same(tmp_path / "killed", tmp_path / "whole")
