"""Hugging Face directories: GPT-2 against recorded logits, and both layouts there and back."""

import dataclasses
import json
import shutil

import jax
import numpy as np
import pytest
import safetensors.numpy

from sparse_jax.inputs import InputError
from sparse_jax.model.forward import forward
from sparse_jax.models.hugging_face import read_hugging_face, write_hugging_face
from tests.models.conftest import DATA
from tests.models.test_released import VARIANTS, assert_same

GPT2 = sorted((DATA / "gpt2").iterdir())


def logits_of(model, tokens):
    config = dataclasses.replace(model.config, unroll=False)
    return np.asarray(jax.jit(lambda params: forward(config, params, tokens)[0])(model.params))


@pytest.mark.parametrize("directory", GPT2, ids=lambda path: path.name)
def test_gpt2_gives_the_recorded_logits(directory):
    recorded = np.load(directory / "recorded.npz")
    found = logits_of(read_hugging_face(directory), recorded["tokens"])
    assert np.max(np.abs(found - recorded["logits"])) / np.max(np.abs(recorded["logits"])) < 1e-5


@pytest.mark.parametrize("directory", GPT2, ids=lambda path: path.name)
def test_gpt2_is_written_as_it_was_read(directory, tmp_path):
    model = read_hugging_face(directory)
    write_hugging_face(model, tmp_path / "out")
    assert_same(read_hugging_face(tmp_path / "out"), model)
    before, after = (
        safetensors.numpy.load_file(folder / "model.safetensors") for folder in (directory, tmp_path / "out")
    )
    assert before.keys() == after.keys()
    for name, tensor in before.items():
        np.testing.assert_array_equal(after[name], tensor, err_msg=name)
    wanted, found = (
        json.loads((folder / "config.json").read_text()) for folder in (directory, tmp_path / "out")
    )
    different = {name for name in found if found[name] != wanted[name]}
    assert different <= {"n_inner"} and found["n_inner"] == model.config.d_mlp


@pytest.mark.parametrize("variant", VARIANTS)
def test_any_model_comes_back_with_the_same_bits(tmp_path, make, variant):
    model = make(**VARIANTS[variant])
    write_hugging_face(model, tmp_path / "out")
    assert_same(read_hugging_face(tmp_path / "out"), model)


@pytest.fixture
def directory(tmp_path):
    return shutil.copytree(DATA / "gpt2" / "gpt2_tied", tmp_path / "gpt2")


@pytest.mark.parametrize(
    "fields, said",
    [
        ({"model_type": "llama"}, "config.model_type: 'llama'"),
        ({"model_type": None}, "config.model_type"),
        ({"activation_function": "silu"}, "activation_function: 'silu'"),
        ({"scale_attn_by_inverse_layer_idx": True}, "scale_attn_by_inverse_layer_idx: True"),
        ({"layer_norm_epsilon": 1e-6}, "layer_norm_epsilon: 1e-06"),
        ({"n_embd": None}, "config.n_embd: None"),
        ({"n_head": 5}, "config.n_head: 5"),
        ({"n_inner": 40}, "c_fc.bias' has shape"),
        ({"tie_word_embeddings": False}, "lm_head.weight' is missing"),
    ],
)
def test_another_gpt2_is_refused(directory, fields, said):
    path = directory / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))
    with pytest.raises(InputError, match=said):
        read_hugging_face(directory)


def test_names_without_prefix_and_old_masks_are_read(directory):
    wanted = read_hugging_face(directory)
    path = directory / "model.safetensors"
    tensors = {name.removeprefix("transformer."): x for name, x in safetensors.numpy.load_file(path).items()}
    tensors["h.0.attn.bias"] = np.tri(16, dtype=np.float32)[None, None]
    tensors["h.0.attn.masked_bias"] = np.full(1, -1e4, np.float32)
    safetensors.numpy.save_file(tensors, path)
    assert_same(read_hugging_face(directory), wanted)


@pytest.mark.parametrize("keep", [0, 0.5, 0.99])
def test_a_truncated_file_is_named(directory, keep):
    path = directory / "model.safetensors"
    path.write_bytes(path.read_bytes()[: int(keep * path.stat().st_size)])
    with pytest.raises(InputError, match="model.safetensors: cannot be read"):
        read_hugging_face(directory)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("activation", ["gelu_new", "gelu", "relu"])
def test_gpt2_of_transformers_gives_the_same_logits(tmp_path, seed, activation):
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(seed)
    config = transformers.GPT2Config(
        vocab_size=40, n_positions=12, n_embd=24, n_layer=2, n_head=3, initializer_range=0.3,
        activation_function=activation,
    )  # fmt: skip
    model = transformers.GPT2LMHeadModel(config).eval()
    model.save_pretrained(tmp_path / "theirs")
    tokens = torch.randint(0, 40, (2, 12))
    with torch.no_grad():
        wanted = model(tokens).logits.numpy()
    ours = read_hugging_face(tmp_path / "theirs")
    np.testing.assert_allclose(logits_of(ours, tokens.numpy()), wanted, atol=1e-4)
    write_hugging_face(ours, tmp_path / "ours")
    again = transformers.GPT2LMHeadModel.from_pretrained(tmp_path / "ours").eval()
    with torch.no_grad():
        np.testing.assert_allclose(again(tokens).logits.numpy(), wanted, atol=1e-6)
