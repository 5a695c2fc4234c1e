"""The pairs of models that the repository holds are what their tables say they are."""

import json
from pathlib import Path

import numpy as np
import pytest

from experiments.configs import small
from experiments.studies.comparison import SIDES
from experiments.studies.pair import validation_loss
from sparse_jax.ablation.score import measure_tasks
from sparse_jax.data.simple_python import programs
from sparse_jax.data.tokenizer import END_OF_TEXT
from sparse_jax.models import means as text_means
from sparse_jax.models.formats import load_model
from sparse_jax.models.means import node_means
from sparse_jax.sparsity.rules import sparse_leaves
from sparse_jax.tasks.built_in import TASKS
from sparse_jax.training.config import difference, run_config
from sparse_jax.trees import named_leaves

RESULTS = Path(__file__).parents[2] / "experiments" / "results"
FOLDERS = {"small": RESULTS / "small", "wide": RESULTS / "wider_pair"}
ROWS = {
    size: [json.loads(line) for line in (folder / "tasks.jsonl").read_text().splitlines()]
    for size, folder in FOLDERS.items()
}


@pytest.fixture(scope="module", params=SIDES)
def model(request):
    return request.param, load_model(FOLDERS["small"] / request.param)


@pytest.mark.parametrize("size", FOLDERS)
@pytest.mark.parametrize("side", SIDES)
def test_they_are_the_models_of_the_config(size, side):
    run = json.loads((FOLDERS[size] / side / "config.json").read_text())
    assert difference(run_config(run), run_config(small.get_config(f"size={size}").to_dict()[side])) is None


@pytest.mark.slow
def test_it_does_a_task_as_well_as_the_table_says(model):
    side, model = model
    row = next(
        row
        for row in ROWS["small"]
        if (row["model"], row["task"], row["split"]) == (side, "lambda_func", "test")
    )
    pairs = TASKS["lambda_func"].encode("test", row["pairs"], 0, model.tokenizer, model.config.context)
    (found,) = measure_tasks(model, {"lambda_func": pairs}, "test")
    for name, value in row.items():
        if isinstance(value, float):
            assert found[name] == pytest.approx(value, abs=1e-4), name


@pytest.mark.slow
def test_it_can_be_pruned_without_its_text(model, monkeypatch):
    monkeypatch.setattr(text_means, "prepare", None)
    means = text_means.ablation_values(model[1])
    config, params = model[1].config, model[1].params
    # about the mean over other programs of the kind
    text = "".join(program + END_OF_TEXT for program in programs(1, 200))
    tokens = np.array(model[1].tokenizer.encode(text).ids)
    windows = tokens[: len(tokens) // config.context * config.context].reshape(-1, config.context)
    found = node_means(config, params, windows)
    for site, mean in means.items():
        assert mean.shape == found[site].shape
        assert np.corrcoef(mean.ravel(), np.asarray(found[site]).ravel())[0, 1] > 0.8, site


@pytest.mark.parametrize("size", FOLDERS)
def test_the_sparse_one_is_as_sparse_as_it_should_be(size):
    model = load_model(FOLDERS[size] / "sparse")
    leaves = named_leaves(model.params)
    sparse = sparse_leaves(run_config(model.run).sparsity, model.params)
    assert len(sparse) == 8  # six kernels and two embeddings
    for name, leaf in sparse.items():
        for matrix in np.asarray(leaves[name]).reshape(leaf.stack_shape):
            assert np.count_nonzero(matrix) == leaf.target, name


@pytest.mark.parametrize("size", FOLDERS)
def test_both_are_about_equally_good_and_do_nearly_all_tasks(size):
    losses = [validation_loss(FOLDERS[size] / side) for side in SIDES]
    assert abs(losses[0] - losses[1]) < 0.01
    for side in SIDES:
        found = [row["loss"] for row in ROWS[size] if (row["model"], row["split"]) == (side, "test")]
        assert len(found) == len(TASKS)
        assert sum(loss < 0.15 for loss in found) >= 18
