"""The command that measures how much of known circuits is found."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def run(*arguments):
    command = [sys.executable, "-m", "experiments.ground_truth", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600)


def test_an_unknown_program_is_named_before_anything_is_written(command, tmp_path):
    done = command("ground_truth", "--programs=copy,inductoin", f"--output={tmp_path}/out")
    assert done.returncode == 2
    assert done.stderr.startswith("error: --programs: 'inductoin' is unknown; did you mean 'induction'?")
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_learned_gates_find_a_circuit_amid_extras(tmp_path):
    done = run("--programs=lookup", "--extras", "--seed=3", "--seeds=1", f"--output={tmp_path}")
    assert done.returncode == 0, done.stderr
    rows = [json.loads(line) for line in (tmp_path / "rows.jsonl").read_text().splitlines()]
    assert len(rows) == 8 and (tmp_path / "table.md").read_text() in done.stdout
    assert {row["seed"] for row in rows} == {3}
    for row in rows[::4]:
        assert row["method"] == "learned"
        for name in ("node_precision", "node_recall", "edge_precision", "edge_recall"):
            assert row[name] == 1
        assert row["node_auroc"] > 0.98
