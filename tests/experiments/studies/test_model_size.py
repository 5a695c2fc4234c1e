"""Rows of the study of models' sizes, worked by hand."""

import dataclasses
import json
from types import SimpleNamespace

import numpy as np
import pytest

from experiments.studies.model_size import (
    ModelRow,
    common_tasks,
    format_rows,
    mean_edges,
    model_row,
    write_rows,
)
from sparse_jax.model.config import ModelConfig
from sparse_jax.model.forward import param_shapes
from sparse_jax.trees import map_named

ROW = ModelRow("d64_4th", 64, 0.25, "", 98_304, 24_576, 2.1, {"one": 4, "two": 16, "three": 9})
ROWS = (
    ROW,
    dataclasses.replace(ROW, name="d64_8th", nonzero=12_288, edges={"two": 25, "one": 1}),
    dataclasses.replace(ROW, name="active_8th", changed="activation_fraction", edges={"one": 7, "two": 7}),
)


def test_only_tasks_that_all_models_can_do_are_compared():
    assert common_tasks(ROWS) == ["one", "two"]
    assert mean_edges(ROWS[0], ["one", "two"]).value == pytest.approx(8)
    assert mean_edges(ROWS[1], ["one", "two"]).value == pytest.approx(5)


def test_the_table_has_shares_losses_and_means():
    lines = format_rows(ROWS, 0.15).splitlines()
    assert "0.15 nats" in lines[2] and "(one, two)" in lines[3]
    assert lines[-3].startswith("| d64_4th | 64 | 98,304 | 24,576 | 25.0 % | 2.100 | 8 [")
    assert lines[-3].endswith("| 3 |")
    assert "| 5 [" in lines[-2] and lines[-2].endswith("| 2 |")


def test_models_without_a_common_task_make_no_mean_and_no_figure(tmp_path):
    rows = (ROW, dataclasses.replace(ROW, edges={}))
    assert "| - | 0 |" in write_rows(rows, 0.15, tmp_path)
    assert not (tmp_path / "model_size.png").exists()


def test_rows_come_back_and_the_figure_is_drawn(tmp_path):
    write_rows(ROWS, 0.15, tmp_path)
    found = [json.loads(line) for line in (tmp_path / "rows.jsonl").read_text().splitlines()]
    assert [ModelRow(**row) for row in found] == list(ROWS)
    assert (tmp_path / "model_size.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"


def circuit(edges, reached=True):
    return SimpleNamespace(counts={"edges": edges}, provenance={"reached": reached})


def test_a_row_counts_what_is_there():
    config = ModelConfig(vocab_size=20, context=8, n_layers=2, d_model=16, d_head=4)

    def first_only(name, leaf):
        kept = np.ones(leaf.shape, leaf.dtype)
        if name.startswith("layers"):
            kept[1:] = 0
        return kept

    params = map_named(first_only, param_shapes(config))
    run = {"sparsity": {"fraction": 0.5}}
    model = SimpleNamespace(config=config, params=params, run=run)
    circuits = {"a": circuit(12), "none": circuit(0), "missed": circuit(5, reached=False)}
    row = model_row("half", "", model, 2.5, circuits)
    assert row.edges == {"a": 12, "none": 1}
    assert (row.d_model, row.fraction, row.validation) == (16, 0.5, 2.5)
    assert row.weights == 2 * 12 * 16 * 16
    # of the first layer everything is 1: matrices, biases (9 widths), two norms, four sinks
    assert row.nonzero == 12 * 16 * 16 + 9 * 16 + 2 * 16 + 4
