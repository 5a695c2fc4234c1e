"""A model that is too large for memory is refused by the field that makes it so, before it is made."""

import json

import jax
import numpy as np
import pytest
import safetensors.numpy

from sparse_jax.inputs import InputError
from sparse_jax.model.config import ModelConfig
from sparse_jax.models.compact import NONZERO
from sparse_jax.models.formats import load_model, save_model
from sparse_jax.models.room import require_room
from sparse_jax.runtime import memory
from sparse_jax.trees import named_leaves

SMALL = {"vocab_size": 64, "context": 8, "n_layers": 2, "d_model": 16, "d_head": 4}


def set_memory(monkeypatch, size):
    monkeypatch.setattr(memory, "whole_on_host", lambda: size)


@pytest.mark.parametrize(
    ("changes", "said", "smaller"),
    [
        (
            {"vocab_size": 50257},
            "model.bigram: 'learned' makes bigram/kernel 50257 x 50257",
            "a model.bigram_table_rank such as 64, model.bigram 'none', a smaller model.vocab_size",
        ),
        (
            {"vocab_size": 50257, "bigram_table_rank": 64},
            "model.bigram_table_rank: 64 makes bigram/current/kernel 50257 x 64",
            "a smaller model.bigram_table_rank or model.vocab_size",
        ),
        (
            {"vocab_size": 50257, "bigram": "none"},
            "model.vocab_size: 50257 makes embed/kernel 50257 x 16",
            "a smaller model.vocab_size or model.d_model",
        ),
        (
            {"d_mlp": 1000},
            "model.d_mlp: 1000 makes layers/mlp/down/kernel 2 x 1000 x 16",
            "a smaller model.d_mlp, model.d_model or model.n_layers",
        ),
        (
            {"n_heads": 900},
            "model.d_model: 16 makes layers/attn/k/kernel 2 x 16 x 3600",
            "a smaller model.d_model, model.n_heads or model.n_layers",
        ),
        (
            {"context": 9000, "positions": "added"},
            "model.context: 9000 makes position/kernel 9000 x 16",
            "a smaller model.context",
        ),
    ],
)
def test_the_field_behind_the_largest_leaf_is_named(monkeypatch, changes, said, smaller):
    set_memory(monkeypatch, 2_000_000)
    config = ModelConfig(**{**SMALL, **changes})
    with pytest.raises(InputError) as error:
        require_room(config, 2_500_000, jax.devices()[:1], "the weights")
    assert str(error.value) == (
        f"{said}; the weights need 0.0025 GB, and there are 0.002 GB; valid: {smaller}, or more memory"
    )


def test_what_may_fit_is_let_through(monkeypatch):
    set_memory(monkeypatch, 4000)
    for count, each in ((1, 4000), (2, 2000)):
        devices = jax.devices()[:1] * count
        require_room(ModelConfig(**SMALL), each, devices, "the weights")
        with pytest.raises(InputError, match="need .* GB( on each device)?, and"):
            require_room(ModelConfig(**SMALL), each + 1, devices, "the weights")


@pytest.mark.parametrize("kind", ["compact", "safetensors", "openai", "hf"])
def test_loading_what_does_not_fit_is_refused_in_every_format(monkeypatch, tmp_path, make, kind):
    model = make(vocab_size=64)
    save_model(model, tmp_path / "out", kind)
    size = sum(leaf.nbytes for leaf in named_leaves(model.params).values())
    set_memory(monkeypatch, size)
    load_model(tmp_path / "out")
    set_memory(monkeypatch, size - 1)
    said = (
        f"{tmp_path}.*: model.bigram: 'learned' makes bigram/kernel 64 x 64; the parameters need .* more mem"
    )
    with pytest.raises(InputError, match=said):
        load_model(tmp_path / "out")


def test_a_small_file_of_a_large_model_is_refused_before_anything_is_unpacked(monkeypatch, tmp_path):
    """All of a table's entries are zero: a few bytes a row could say so."""
    config = {"vocab_size": 50257, "context": 8, "n_layers": 1, "d_model": 8, "d_head": 4}
    (tmp_path / "config.json").write_text(json.dumps({"model": config}))
    content = safetensors.numpy.save({"x": np.zeros(1, np.uint8)}, {"format": NONZERO})
    (tmp_path / "weights.safetensors").write_bytes(content)
    set_memory(monkeypatch, 10 * 10**9)
    with pytest.raises(
        InputError, match="bigram/kernel 50257 x 50257; the parameters need 10.1 GB, and .* 10 GB"
    ):
        load_model(tmp_path)
