"""sweep.sh: a line for every combination, for a shell to run."""

import os
import re
import shlex
import subprocess

import pytest

from tests.launch.checkout import LAUNCH, TRAIN


def test_a_sweep_has_a_line_for_every_combination(checkout):
    varied = ["--config.training.seed=0,1", "--config.optimizer.b2=0.9,0.95"]
    start = ["bash", "launch/local.sh"]
    done = checkout.run("sweep.sh", *start, "--", *TRAIN[:2], "--", *varied, SWEEP="runs/my sweep")
    lines = [shlex.split(line) for line in done.stdout.splitlines()]
    assert [line[-3:-1] for line in lines] == [
        [f"--config.training.seed={seed}", f"--config.optimizer.b2={b2}"]
        for seed in (0, 1)
        for b2 in (0.9, 0.95)
    ]
    assert [line[-1] for line in lines] == [f"--workdir=runs/my sweep/{i}" for i in range(4)]
    assert all(line[:4] == [*start, *TRAIN[:2]] for line in lines)


def test_a_sweep_can_run_several_at_once_as_the_text_says(checkout):
    (piece,) = re.findall(r"`(tr[^`]*xargs[^`]*)`", (LAUNCH / "README.md").read_text())
    checkout.stand_in("python", "true")
    arguments = ["experiments.train", "--config.a=it's", "--", "--config.training.seed=0,1"]
    sweep = shlex.join(["bash", "launch/sweep.sh", "--", *arguments])
    command = ["bash", "-c", f"SWEEP='a b' {sweep} | {piece}"]
    environment = {"PATH": f"{checkout.bin}:{os.environ['PATH']}"}
    subprocess.run(command, cwd=checkout.root, env=environment, check=True, timeout=60)
    runs = [["-m", *arguments[:2], f"--config.training.seed={i}", f"--workdir=a b/{i}"] for i in (0, 1)]
    assert sorted(checkout.called()) == runs


@pytest.mark.parametrize(
    "arguments",
    [[], ["--", "experiments.train"], ["--", "--", "--a=1"], ["--", "m", "--"], ["--", "m", "--", "x"]],
)
def test_a_wrong_sweep_is_refused(checkout, arguments):
    done = checkout.run("sweep.sh", *arguments)
    assert done.returncode == 2
    assert done.stderr.startswith("error: ") and done.stdout == ""
