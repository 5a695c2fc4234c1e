"""The table of tasks for a model whose answers are known."""

import json

import jax
import numpy as np
import pytest

from sparse_jax.ablation import score as task_table
from sparse_jax.ablation.objective import pair_losses
from sparse_jax.ablation.score import format_tasks, measure_tasks
from sparse_jax.inputs import InputError
from sparse_jax.models.model import Model
from tests.planted import CONFIG, planted_pairs, planted_params


@pytest.fixture(scope="module")
def model():
    return Model(CONFIG, planted_params(), None, "planted")


@pytest.fixture(scope="module")
def encoded():
    """A task that the model does, the same reversed and longer by padding, and a single pair."""
    task, other = planted_pairs(13), planted_pairs(6, seed=1)
    reversed_task = other._replace(
        tokens=np.pad(other.tokens, ((0, 0), (0, 0), (0, 4))), candidates=other.candidates[..., ::-1]
    )
    return {"planted": task, "reversed": reversed_task, "single": planted_pairs(1)}


@pytest.mark.parametrize("batch", [1, 5, 64])
def test_every_task_has_its_own_pairs_figures_whatever_the_batch(model, encoded, batch, capsys):
    rows = measure_tasks(model, encoded, "test", batch)
    assert [(row["task"], row["pairs"], row["tokens"]) for row in rows] == [
        ("planted", 13, 3),
        ("reversed", 6, 3),
        ("single", 1, 3),
    ]
    losses_of = jax.jit(lambda params, pairs: pair_losses(CONFIG, params, {}, {}, pairs))
    for row, pairs in zip(rows, encoded.values()):
        losses = np.asarray(losses_of(model.params, pairs), np.float64)
        assert row["loss"] == pytest.approx(losses.mean(), rel=1e-4)
        if len(losses) > 1:
            expected = losses.std(ddof=1) / len(losses) ** 0.5
            assert row["loss_error"] == pytest.approx(expected, rel=1e-2, abs=1e-6)
    assert [row["accuracy"] for row in rows] == [1.0, 0.0, 1.0]
    assert rows[0]["logit_difference"] > 0 > rows[1]["logit_difference"]
    assert all(row["full_vocabulary_loss"] > row["loss"] for row in rows)
    assert rows[2]["loss_error"] is None and json.loads(json.dumps(rows)) == rows
    assert "tasks: 20 pairs in" in capsys.readouterr().err


def test_one_program_is_compiled_for_all_tasks(model, encoded, capsys):
    before = task_table._compiled_metrics._cache_size()
    measure_tasks(model, encoded, "test", batch=3)
    measure_tasks(model, encoded, "shifted", batch=3)
    assert task_table._compiled_metrics._cache_size() == before + 1


def test_the_table_says_how_many_reach_the_target(model, encoded, capsys):
    lines = format_tasks(measure_tasks(model, encoded, "test")).splitlines()
    assert [line.split()[0] for line in lines] == ["task", "planted", "reversed", "single", "2"]
    assert lines[-1] == "2 of 3 below 0.15 nats; chance is 0.693"
    assert "1.000 ± 0.000" in lines[1] and "±" not in lines[3]


def test_columns_stay_in_line_under_long_names(model, encoded, capsys):
    longest = "set_or_string_fixedvarname.nonsense-of-mine"
    rows = measure_tasks(model, {"a": encoded["planted"], longest: encoded["planted"]}, "test")
    head, short, long, _ = format_tasks(rows).splitlines()
    assert len(head) == len(short) == len(long) and short[1:].lstrip() == long[len(longest) :].lstrip()


def test_no_task_is_refused(model):
    with pytest.raises(InputError, match="tasks: .* at least one task"):
        measure_tasks(model, {}, "test")
