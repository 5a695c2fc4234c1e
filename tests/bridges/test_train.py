"""Whole runs: bridges and the sparse model are trained, the dense one stays, and stops leave no trace."""

import dataclasses
import json

import jax
import numpy as np
import pytest

from sparse_jax.bridges import train
from sparse_jax.bridges.config import TERMS, BridgeConfig, BridgeRun
from sparse_jax.bridges.program import bridge_program
from sparse_jax.bridges.terms import bridge_loss, loss_terms
from sparse_jax.bridges.train import check_pair_of_models, train_bridges
from sparse_jax.data.corpus import prepare
from sparse_jax.inputs import InputError
from sparse_jax.model.forward import initialize
from sparse_jax.models.model import Model
from sparse_jax.runtime.writers import read_rows
from sparse_jax.training.config import run_config
from tests.programs import made_once
from tests.tiny_run import tiny
from tests.training.test_loop import Killed, kill_after, measured, same_parameters

made = made_once(bridge_program)


@pytest.fixture(scope="module")
def run(directory):
    mapping = tiny(directory)
    mapping["bridges"] = {"learning_rate": 0.02}
    mapping["model"]["n_layers"] = 1  # six hybrid runs to compile, not ten
    mapping["training"].update(steps=4, evaluate_every=2, checkpoint_every=2)
    return run_config(mapping, BridgeRun)


@pytest.fixture(scope="module")
def dense(run):
    config = dataclasses.replace(run.model, d_model=8)
    return Model(config, initialize(config, jax.random.key(5)), prepare(run.data, 300).tokenizer, "dense")


def program_of(run, dense):
    """The program that a run with this dense model has."""
    settings = dataclasses.replace(run.bridges, dense=dense.fingerprint)
    return made(dataclasses.replace(run, bridges=settings), dense, None)


def test_a_run_keeps_the_dense_model_and_resumes_bit_for_bit(run, dense, tmp_path, monkeypatch):
    monkeypatch.setattr(train, "bridge_program", made)
    before = jax.tree.map(np.array, dense.params)
    whole = train_bridges(run, dense, tmp_path / "whole")
    assert same_parameters(dense.params, before)
    rows = measured(tmp_path / "whole")
    evaluations = [row for row in rows if "kurtosis" in row]
    assert [row["step"] for row in evaluations] == [0, 2, 4]
    assert {f"bridges/{term}" for term in TERMS} < set(evaluations[0])
    fresh = jax.device_get(program_of(run, dense).start().params)
    assert not same_parameters(whole.sparse.params, fresh["sparse"])
    assert not same_parameters(whole.bridges, fresh["bridges"])
    kernel = np.asarray(whole.sparse.params["layers"]["mlp"]["up"]["kernel"])
    assert all(np.count_nonzero(layer) == layer.size // 2 for layer in kernel)

    with monkeypatch.context() as patch, pytest.raises(Killed):
        kill_after(patch, 3)
        train_bridges(run, dense, tmp_path / "killed")
    resumed = train_bridges(run, dense, tmp_path / "killed")
    assert same_parameters(resumed.bridges, whole.bridges)
    assert same_parameters(resumed.sparse.params, whole.sparse.params)
    assert measured(tmp_path / "killed") == rows
    saved = json.loads((tmp_path / "whole" / "config.json").read_text())
    assert saved["bridges"]["dense"] == dense.fingerprint

    other = dataclasses.replace(dense, params=initialize(dense.config, jax.random.key(6)))
    with pytest.raises(InputError, match="another config .bridges.dense"):
        train_bridges(run, other, tmp_path / "whole")


def test_bridges_alone_learn_and_leave_the_sparse_model_as_it_was(run, dense, tmp_path):
    # without the runs that change over, of which each is a model more to compile
    only_errors = {"cross_entropy": 0.0, "dense_to_sparse_kl": 0.0, "sparse_to_dense_kl": 0.0}
    settings = BridgeConfig(train_sparse=False, learning_rate=0.05, **only_errors)
    start = Model(run.model, initialize(run.model, jax.random.key(2)), dense.tokenizer, "start")
    run = dataclasses.replace(
        run,
        bridges=settings,
        training=dataclasses.replace(run.training, steps=30, evaluate_every=0, checkpoint_every=0),
    )
    pair = train_bridges(run, dense, tmp_path, start)
    assert same_parameters(pair.sparse.params, start.params)
    first, last = (row for row in read_rows(tmp_path / "metrics.jsonl") if "kurtosis" in row)
    for term in ("encoder_nmse", "decoder_nmse"):
        assert last[f"bridges/{term}"] < 0.95 * first[f"bridges/{term}"]
    assert last["validation/mixture"] == first["validation/mixture"]


def test_a_step_on_several_devices_is_that_on_one(run, dense):
    program = program_of(run, dense)
    state = program.start()
    tokens = np.random.default_rng(0).integers(0, 300, (4, 17)).astype(np.int32)
    params = jax.device_put(jax.device_get(state.params), jax.devices()[0])

    @jax.jit
    def value_and_gradient(params, of_dense, tokens):
        return jax.value_and_grad(
            lambda params: bridge_loss(run, loss_terms(run, dense.config, params, of_dense, tokens))
        )(params)

    loss, gradient = value_and_gradient(params, dense.params, tokens)
    norm = np.sqrt(sum(float(np.square(leaf).sum()) for leaf in jax.tree.leaves(gradient)))
    state, metrics = program.step(state, tokens, *program.constants)
    np.testing.assert_allclose(metrics["loss"], loss, rtol=1e-5)
    np.testing.assert_allclose(metrics["gradient_norm"], norm, rtol=1e-4)
    assert int(state.step) == 1


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"vocab_size": 301}, "vocab_size: 301 is not valid; valid: 300"),
        ({"n_layers": 2}, "n_layers: 2 is not valid; valid: 1"),
        ({"context": 8}, "context: 8 is not valid; valid: at least 16"),
    ],
)
def test_models_that_no_bridge_can_join_are_named(run, dense, change, said):
    sparse = Model(run.model, {}, dense.tokenizer, "sparse")
    other = dataclasses.replace(dense, config=dataclasses.replace(dense.config, **change))
    with pytest.raises(InputError, match=f"dense model dense: {said}"):
        check_pair_of_models(sparse, other)


def test_wrong_starts_and_tokenizers_are_refused_before_any_work(run, dense, tmp_path):
    other = Model(dense.config, dense.params, prepare(run.data, 280).tokenizer, "other")
    with pytest.raises(InputError, match="other: its tokenizer is not that of the sparse model"):
        train_bridges(run, other, tmp_path / "run")
    with pytest.raises(InputError, match="is not that of dense"):
        train_bridges(run, dense, tmp_path / "run", start=dense)
    alone = dataclasses.replace(run, bridges=BridgeConfig(train_sparse=False))
    with pytest.raises(InputError, match="bridges.train_sparse: False is not valid; valid: True"):
        train_bridges(alone, dense, tmp_path / "run")
    assert not (tmp_path / "run").exists()
