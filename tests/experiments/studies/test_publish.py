"""The published pair: the table says what the rows say, and the folders load."""

import json

import jax
import pytest
from tokenizers import Tokenizer, models

from experiments.studies.pair import validation_loss
from experiments.studies.publish import format_models, publish
from sparse_jax.model.config import ModelConfig
from sparse_jax.model.forward import initialize
from sparse_jax.models.formats import load_model
from sparse_jax.models.model import Model
from sparse_jax.training.config import run_config
from tests.tiny_run import MAPPING


def _row(task, loss, error=0.01):
    return {"task": task, "split": "test", "loss": loss, "loss_error": error, "accuracy": 0.75}


ROWS = {
    "sparse": [_row("for_while", 0.1), _row("var_swap", 0.3)],
    "dense": [_row("for_while", 0.149), _row("var_swap", 0.02, None)],
}


@pytest.fixture
def workdirs(tmp_path):
    for name, loss in (("sparse", 1.5), ("dense", 1.504)):
        (tmp_path / name).mkdir()
        rows = [{"step": 0, "validation/mixture": 9.0}, {"step": 1, "loss": 2.0}]
        rows.append({"step": 1, "validation/mixture": loss})
        (tmp_path / name / "metrics.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return {name: tmp_path / name for name in ROWS}


def test_the_table_counts_tasks_and_names_the_worst():
    lines = format_models(ROWS, {"sparse": 1.5, "dense": 1.504}).splitlines()
    table = {line[:30].strip(): line[30:].split() for line in lines[1:-1]}
    assert table["for_while"] == ["0.100", "±", "0.010", "75.0", "%", "0.149", "±", "0.010", "75.0", "%"]
    assert table["var_swap"] == ["0.300", "±", "0.010", "75.0", "%", "0.020", "75.0", "%"]
    assert table["tasks below 0.15 nats"] == ["1", "2"]
    assert table["greatest loss"] == ["0.300", "0.149"]
    assert table["validation loss, nats a token"] == ["1.5000", "1.5040"]


def test_columns_stay_in_line_under_long_names():
    rows = {"sparse": [_row("a", 0.1), _row("set_or_string_fixedvarname.nonsense", 0.1)]}
    lines = format_models(rows, {"sparse": 1.5}).splitlines()[:-1]
    assert len({len(line) for line in lines}) == 1 and lines[1].index("0.100") == lines[2].index("0.100")


def test_a_published_model_loads_with_its_rows_beside_it(tmp_path, workdirs):
    run = run_config(MAPPING | {"data": {"sources": {"simple": {"kind": "simple_python"}}}})
    params = initialize(run.model, jax.random.key(0))
    model = Model(run.model, params, Tokenizer(models.BPE()), run=json.loads(run.to_json()))
    output = tmp_path / "published"
    table = publish({"sparse": model, "dense": model}, {"test": ROWS}, workdirs, output)
    assert (output / "table.txt").read_text() == table + "\n" and "apart" not in table
    loaded = load_model(output / "dense")
    assert isinstance(loaded.config, ModelConfig) and run_config(loaded.run) == run
    assert validation_loss(output / "dense") == 1.504
    rows = [json.loads(line) for line in (output / "tasks.jsonl").read_text().splitlines()]
    assert [(row.pop("model"), row) for row in rows] == [(m, row) for m in ROWS for row in ROWS[m]]


def test_a_pair_of_unequal_loss_is_named_below_the_table(tmp_path, workdirs):
    run = run_config(MAPPING | {"data": {"sources": {"simple": {"kind": "simple_python"}}}})
    params = initialize(run.model, jax.random.key(0))
    model = Model(run.model, params, Tokenizer(models.BPE()), run=json.loads(run.to_json()))
    (workdirs["dense"] / "metrics.jsonl").write_text('{"step": 1, "validation/mixture": 1.52}')
    table = publish({"sparse": model, "dense": model}, {"test": ROWS}, workdirs, tmp_path / "published")
    assert table.splitlines()[-1].startswith("validation losses sparse 1.500, dense 1.520: more than 0.01")
