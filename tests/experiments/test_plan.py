"""The commands that plan: what is wrong is said before anything is compiled, and what is given is used."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CONFIG = "--config=experiments/configs/pretrain.py:size=tiny,kind=sparse"
# Runs a command once for each list of flags, with a stand-in for everything that takes long.
DRIVER = """
import json, sys
from absl import flags
from sparse_jax.inputs import InputError
import experiments.{script} as script
script.planned_devices = lambda topology: []
{stand_ins}
for given in json.loads(sys.argv[1]):
    flags.FLAGS.unparse_flags()
    sys.argv = ["command", *given]  # where config flags look
    flags.FLAGS(sys.argv)
    try:
        script.main()
    except InputError as error:
        print("refused:", error)
"""


def outputs(script: str, stand_ins: str, *runs: list[str]) -> list[str]:
    """A line of each run."""
    code = DRIVER.format(script=script, stand_ins=stand_ins)
    command = [sys.executable, "-c", code, json.dumps([[CONFIG, *run] for run in runs])]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_a_plan_takes_the_config_of_pruning_and_a_place_that_can_be_written(tmp_path):
    stand_ins = (
        "script.plan_pruning = lambda config, prune, *_: prune.pairs_per_step; script.format_record = str"
    )
    start = ["--topology=cpu:2", "--programs=pruning"]
    pruning = ["--prune=experiments/configs/prune.py", "--prune.pairs_per_step=7"]
    (tmp_path / "file").write_text("")
    lines = outputs(
        "plan",
        stand_ins,
        [*start, f"--output={tmp_path}/file/plan.jsonl"],
        [*start, f"--output={tmp_path}"],
        [*start, f"--output={tmp_path}/plan.jsonl"],
        [*start, f"--output={tmp_path}/plan.jsonl", *pruning],
        [*start[:1], "--programs=training", pruning[0]],
    )
    assert lines == [
        f"refused: {tmp_path}/file/plan.jsonl: cannot be written (File exists)",
        f"refused: {tmp_path}: is a directory; valid: a file",
        "64",
        "7",
        "refused: --programs: ['training'] is not valid; valid: pruning as well, with --prune",
    ]
    assert (tmp_path / "plan.jsonl").read_text() == "7\n"


@pytest.fixture(scope="module")
def sizes(tmp_path_factory):
    folder = tmp_path_factory.mktemp("plans")
    (folder / "file").write_text("")
    plans = "script.plan_update = plan_update; script.plan_training = plan_training"
    planned = "print('planned', config.model.d_model); return {'program': '%s', 'topology': topology.name}"
    defined = "\n".join(
        f"def plan_{name}(config, topology, devices): {planned % name}" for name in ("update", "training")
    )
    start = ["--topologies=v5e-64", "--widths=64", f"--output={folder}/new"]
    return outputs(
        "plan_sizes",
        f"{defined}\n{plans}\nscript.markdown = lambda records: str(len(records))",
        [*start, "--widths=64,wide"],
        [*start, "--widths=0"],
        [*start, "--topologies=v5e-65"],
        [*start, "--topologies=cpu:8"],
        [*start, f"--output={folder}/file"],
        start,
        start,
        [*start, "--widths=64,128"],
        [*start, "--config.training.batch_size=64"],
    )


def test_wrong_sizes_are_refused_by_name(sizes):
    names = ["--widths: 'wide'", "--widths: '0'", "--topologies: 'v5e-65'", "--topologies: 'cpu:8'"]
    for line, name in zip(sizes, names):
        assert line.startswith(f"refused: {name} is ")
    assert "file/rows.jsonl: cannot be written" in sizes[4]


def test_rows_that_are_there_are_kept_and_not_mixed_with_those_of_another_config(sizes):
    first = ["planned 64", "planned 64", "2"]
    assert sizes[5:-1] == [*first, "2", "planned 128", "planned 128", "4"]
    assert "contains plans of another config" in sizes[-1]
