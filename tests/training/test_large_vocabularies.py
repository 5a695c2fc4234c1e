"""A bigram table of a large vocabulary is refused before any work, or trained as a product of matrices."""

import dataclasses
import time

import jax
import numpy as np
import pytest

from sparse_jax.inputs import InputError
from sparse_jax.models.formats import load_model
from sparse_jax.runtime import memory
from sparse_jax.runtime.memory import held_bytes
from sparse_jax.training import loop
from sparse_jax.training.config import run_config
from sparse_jax.training.loop import train
from sparse_jax.training.program import train_program
from sparse_jax.trees import named_leaves


def test_a_table_that_does_not_fit_is_refused_before_the_data_is_prepared(mapping, tmp_path, monkeypatch):
    monkeypatch.setattr(memory, "whole_on_host", lambda: 32 * 10**9)
    monkeypatch.setattr(loop, "prepare", None)
    mapping["model"].update(vocab_size=50257, bigram="learned")
    mapping["training"].update(mesh_data=1, mesh_fsdp=-1)
    config = run_config(mapping)
    began = time.process_time()
    with pytest.raises(InputError) as error:
        train(config, tmp_path / "run")
    assert time.process_time() - began < 1
    said = (
        "model.bigram: 'learned' makes bigram/kernel 50257 x 50257; parameters, gradients and optimizer state"
    )
    assert str(error.value).startswith(said)
    valid = (
        "valid: a model.bigram_table_rank such as 64, model.bigram 'none', a smaller model.vocab_size, or mor"
    )
    assert valid in str(error.value)
    assert not (tmp_path / "run").exists()


@pytest.mark.several_devices
def test_what_is_split_over_devices_counts_once(mapping, tmp_path, monkeypatch):
    """Enough for the state twice: one copy fits, four copies do not."""
    monkeypatch.setattr(loop, "prepare", lambda *_: pytest.fail("was let through"))
    mapping["model"].update(vocab_size=20_000, d_model=64)
    mapping["sparsity"]["fraction"] = 1.0
    for axes, fits in (({"mesh_data": -1, "mesh_fsdp": 1}, False), ({"mesh_data": 1, "mesh_fsdp": -1}, True)):
        mapping["training"].update(axes)
        # embedding and unembedding, of 20 000 x 64, each with a gradient and two moments
        monkeypatch.setattr(memory, "whole_on_host", lambda: 2 * 4 * 4 * 2 * 20_000 * 64)
        expected = pytest.fail.Exception if fits else InputError
        with pytest.raises(expected):
            train(run_config(mapping), tmp_path / "run")


def test_a_step_that_keeps_its_old_state_needs_room_for_it(mapping, tmp_path, monkeypatch):
    mapping["training"].update(mesh_data=1, mesh_fsdp=-1)
    config = run_config(mapping)
    state = train_program(config).placed
    count = jax.device_count()
    with_gradients = count * (held_bytes(state) + held_bytes(state.params))
    monkeypatch.setattr(memory, "whole_on_host", lambda: with_gradients)
    monkeypatch.setattr(loop, "prepare", lambda *_: pytest.fail("was let through"))
    with pytest.raises(pytest.fail.Exception):
        train(config, tmp_path / "run")
    kept = dataclasses.replace(config, training=dataclasses.replace(config.training, donate=False))
    with pytest.raises(InputError, match="parameters, gradients and optimizer state need"):
        train(kept, tmp_path / "run")


def test_a_product_trains_on_a_mesh_and_comes_back(mapping, tmp_path):
    mapping["model"].update(bigram="learned", bigram_table_rank=4)
    mapping["training"].update(mesh_data=1, mesh_fsdp=-1, steps=2, evaluate_every=0, checkpoint_every=0)
    if jax.device_count() == 4:
        mapping["training"].update(mesh_fsdp=2, mesh_tensor=2)
    mapping["sparsity"]["fraction"] = 1.0  # compiles faster
    config = run_config(mapping)
    model = train(config, tmp_path / "run")
    found = load_model(tmp_path / "run")
    assert found.fingerprint == model.fingerprint and found.config == config.model
    start = named_leaves(jax.jit(train_program(config).fresh)().params)
    for name in ("bigram/current/kernel", "bigram/next/kernel"):
        leaf = np.asarray(named_leaves(found.params)[name])
        assert np.all(leaf != 0) and np.any(leaf != start[name])
