"""A control of random weights: every matrix as before but for the order of its entries."""

import dataclasses
import json

import numpy as np
import pytest

from sparse_jax.inputs import InputError
from sparse_jax.model.forward import forward
from sparse_jax.models.control_models import random_weights
from sparse_jax.models.formats import load_model, save_model
from sparse_jax.models.model import Model
from sparse_jax.pruning.prune import prune_tasks
from sparse_jax.pruning.recipe import Recipe
from sparse_jax.tasks.task_data import task_data
from sparse_jax.trees import map_named, named_leaves
from tests.planted import Planted, planted_model
from tests.pruning.test_prune import PRUNE, corpus, model  # noqa: F401 (fixtures)


def sparse_of(made: Model) -> Model:
    """The same with two thirds of every kernel exactly zero."""
    numbers = np.random.default_rng(1)

    def thin(name, leaf):
        return leaf * (numbers.random(leaf.shape) < 1 / 3) if name.endswith("kernel") else leaf

    return dataclasses.replace(made, params=map_named(thin, made.params))


def rows(name, leaf):
    """The entries [layers, n] of a leaf."""
    return np.asarray(leaf).reshape(len(leaf) if name.startswith("layers/") else 1, -1)


@pytest.mark.parametrize("changes", [{}, {"tied_embedding": True}, {"bigram": "fixed", "positions": "added"}])
def test_each_matrix_has_the_same_entries_in_another_order(make, changes):
    real = sparse_of(make(**changes))
    control = random_weights(real, 3)
    before, after = named_leaves(real.params), named_leaves(control.params)
    assert list(before) == list(after)
    for name, leaf in before.items():
        one, other = rows(name, leaf), rows(name, after[name])
        assert after[name].shape == leaf.shape and after[name].dtype == np.float32, name
        np.testing.assert_array_equal(np.sort(one), np.sort(other), err_msg=name)  # nonzeros and magnitudes
        assert np.array_equal(one, other) == (len(np.unique(one)) == 1), name
    again, another = random_weights(real, 3), random_weights(real, 4)
    assert again.fingerprint == control.fingerprint
    assert len({real.fingerprint, control.fingerprint, another.fingerprint}) == 3
    assert control.is_control and not real.is_control and "3" in control.facts["control"]


def test_a_table_of_positions_that_is_no_weight_stays(make):
    real = make(positions="sinusoidal", d_position=4)
    before, after = (named_leaves(one.params)["position/kernel"] for one in (real, random_weights(real)))
    np.testing.assert_array_equal(before, after)


def test_the_planted_task_is_lost():
    real, task = planted_model(), Planted("planted", "tests", "which digit is last")
    pairs = task.encode("test", 6, 0, real.tokenizer, 8)

    def right(one):
        logits = forward(one.config, one.params, pairs.tokens.reshape(12, -1))[0]
        two = np.asarray(logits)[np.arange(12), pairs.last.ravel()][
            np.arange(12)[:, None], pairs.candidates.reshape(12, 2)
        ]
        return np.mean(two[:, 0] > two[:, 1])

    assert right(real) == 1 and right(random_weights(real)) < 0.9


def test_it_is_written_with_its_run_and_pruned_though_it_cannot_do_the_task(model, corpus, tmp_path, capsys):  # noqa: F811
    save_model(random_weights(model, 1), tmp_path / "control", "safetensors")
    control = load_model(tmp_path / "control")
    assert control.run == model.run and control.tokenizer.to_str() == model.tokenizer.to_str()
    assert control.control == f"random weights of model {model.fingerprint}, seed 1"
    assert control.origin == str(tmp_path / "control")
    data = task_data(Planted("planted", "tests", "which digit is last"), model.tokenizer, 8, PRUNE.counts)
    (found,) = prune_tasks(control, corpus, [data], Recipe(PRUNE), tmp_path / "circuits")
    assert found.provenance["weights"] == control.fingerprint
    assert found.provenance["control"] == control.control and not found.provenance["reached"]
    assert "planted: a control; the full model is at" in capsys.readouterr().err


@pytest.mark.parametrize("how", ["of random weights", "trained on shuffled text"])
def test_formats_that_do_not_say_that_it_is_a_control_are_refused(make, tmp_path, how):
    real = make()
    shuffled = dataclasses.replace(real, run={"data": {"shuffled": True}})
    control = random_weights(real) if how == "of random weights" else shuffled
    assert control.is_control and "control" in control.facts
    with pytest.raises(InputError, match="format: 'openai' is not valid; valid: compact or safetensors"):
        save_model(control, tmp_path / "out", "openai")
    assert not (tmp_path / "out").exists()


def test_wrong_input_is_named(make, tmp_path):
    with pytest.raises(InputError, match="seed: -1 is not valid; valid: 0 to 2"):
        random_weights(make(), -1)
    save_model(make(), tmp_path / "model")
    config = json.loads((tmp_path / "model" / "config.json").read_text())
    (tmp_path / "model" / "config.json").write_text(json.dumps({**config, "control": 3}))
    with pytest.raises(InputError, match="config.json: control: 3 is not valid; valid: a text"):
        load_model(tmp_path / "model")
