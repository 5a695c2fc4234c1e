"""The study of bridges: its config is whole, its rows are complete, its tables say what the rows say."""

import json
from types import SimpleNamespace

import numpy as np
import pytest

from experiments.configs import bridges
from experiments.studies.bridges import error_rows, path_rows, steering_rows
from experiments.studies.bridges_report import write_results
from sparse_jax.bridges.config import BridgeRun
from sparse_jax.bridges.paths import measure_paths
from sparse_jax.circuits.graph import Node
from sparse_jax.tasks.built_in import TASKS
from sparse_jax.training.config import run_config
from tests.bridges.pairs import exact_pair, some_tokens
from tests.bridges.test_steering import PAIRS

SETTINGS = {"pairs": 2, "seed": 0, "strengths": 3, "random_nodes": 2}


@pytest.mark.parametrize("size", ["small", "tiny"])
def test_the_config_is_whole(size):
    config = bridges.get_config(f"size={size}").to_dict()
    run = run_config({name: config[name] for name in BridgeRun.SECTIONS}, BridgeRun)
    assert not run.bridges.train_sparse and run.bridges.weights["cross_entropy"] == 0
    assert set(config["steering"]["tasks"]) <= set(TASKS)
    assert set(SETTINGS) < set(config["steering"])


def test_rows_tables_and_figures_of_an_exact_pair(tmp_path):
    pair, windows = exact_pair(), some_tokens(4, 9)
    task = SimpleNamespace(name="planted", encode=lambda *_: PAIRS)
    circuit = SimpleNamespace(nodes=[Node(0, "mlp_in", 1), Node(2, "final_resid", 4), Node(0, "q", 1)])
    errors = error_rows(pair, windows)
    assert [row["location"] for row in errors][::4] == ["0.resid_in", "2.final_resid"]
    assert max(max(row["encoder"], row["decoder"]) for row in errors) < 1e-6
    steering = steering_rows(pair, task, circuit, SETTINGS)
    assert len(steering) == 3 * (1 + 1 + 2 + 1 + 1)
    found = {(row["addition"], row["draw"], row["strength"]): row for row in steering}
    # an exact bridge does at full strength what the node does in the other model
    before, after = (found["bridge", 0, s]["probability"] for s in (0.0, 1.0))
    np.testing.assert_allclose(after - before, steering[0]["sparse_effect"], atol=1e-5)

    tables = write_results(errors + path_rows(pair, windows, 2) + steering, tmp_path)
    assert (tmp_path / "table.md").read_text() == tables + "\n"
    for name in ("paths.png", "steering.png"):
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")
    rows = [json.loads(line) for line in (tmp_path / "rows.jsonl").read_text().splitlines()]
    assert [row["loss"] for row in rows if row["kind"] == "path"] == [
        row.loss for row in measure_paths(pair, windows, 2)
    ]
    assert f"| planted | {steering[0]['node']} | the node, through its bridge row | {before:.3f}" in tables
    cells = next(line for line in tables.splitlines() if line.startswith("| 1.resid_mid | 0.000 |  |"))
    assert cells == "| 1.resid_mid | 0.000 |  |  |  | 0.000 |"
