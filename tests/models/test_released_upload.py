"""The released upload: the same network as the directory of `final_model.pt`, in Hugging Face's layout."""

import json

import numpy as np
import pytest
import safetensors.numpy

from sparse_jax.inputs import InputError
from sparse_jax.models import model as model_type
from sparse_jax.models.formats import load_model
from sparse_jax.models.released import read_released
from sparse_jax.models.released_config import OFF
from sparse_jax.models.tokenizer_files import PAIRS
from sparse_jax.models.torch_reader import read_torch_file
from sparse_jax.models.torch_writer import write_torch_file
from tests.models.test_released import assert_same
from tests.models.tokenizers_by_hand import write_pair

SOURCE = "sink_bigram_sparse"
HUB = {
    "model_type": "circuitgpt",
    "architectures": ["CircuitGPTForCausalLM"],
    "auto_map": {"AutoConfig": "config.CircuitGPTConfig"},
    "transformers_version": "4.57.0",
    "torch_dtype": "float32",
    "eos_token_id": 2047,
    "use_cache": True,
}


@pytest.fixture
def upload(released, tmp_path):
    """Writes the upload: its config with other `fields`, its tensors behind `prefix`, by `save`."""

    def write(prefix="circuit_model.", binary=False, **fields):
        config = json.loads((released / SOURCE / "beeg_config.json").read_text())
        config |= dict.fromkeys(OFF) | {"mup": False, "rtopk": False} | HUB | fields
        tensors = {
            prefix + name: np.array(tensor.read())
            for name, tensor in read_torch_file(released / SOURCE / "final_model.pt").items()
        }
        (tmp_path / "config.json").write_text(json.dumps(config))
        if binary:
            write_torch_file(tmp_path / "pytorch_model.bin", tensors.items())
        else:
            safetensors.numpy.save_file(tensors, tmp_path / "model.safetensors")
        return tmp_path

    return write


@pytest.mark.parametrize("binary", [False, True])
@pytest.mark.parametrize("prefix", ["circuit_model.", ""])
def test_it_is_the_model_of_the_other_layout(upload, released, prefix, binary):
    assert_same(load_model(upload(prefix, binary)), read_released(released / SOURCE))


@pytest.mark.parametrize(
    "fields",
    [{"model_type": "circuit_gpt"}, {"model_type": None}, {"hidden_size": 64, "num_hidden_layers": 2}],
)
def test_what_is_not_known_of_its_config_is_tolerated(upload, released, fields):
    assert_same(load_model(upload(**fields)), read_released(released / SOURCE))


@pytest.mark.parametrize("name", OFF)
@pytest.mark.parametrize("value", [True, 8, "on"])
def test_a_value_that_is_not_supported_is_named(upload, name, value):
    with pytest.raises(InputError, match=f"config.{name}: {value!r} is not valid; valid: null or false"):
        load_model(upload(**{name: value}))


@pytest.mark.parametrize(
    "fields, said",
    [
        ({"colour": 1}, "^config.colour: unknown field"),
        ({"activation_type": "silu"}, "^config.activation_type: 'silu'"),
        ({"hidden_size": 65}, "^config.hidden_size: 65 contradicts d_model 64"),
        ({"model_type": "llama", "n_head": 5}, "^config.n_head: 5"),
    ],
)
def test_another_config_is_refused(upload, fields, said):
    with pytest.raises(InputError, match=said):
        load_model(upload(**fields))


def test_its_tokenizer_splits_as_the_released_one(upload, monkeypatch):
    """By the released pattern. (The pair has more ids than the little model, which is another fault.)"""
    directory = upload()
    write_pair(directory, PAIRS[0], end=False)
    with pytest.raises(InputError, match="tokenizer: .* ids, .* for a model with a vocabulary of 96"):
        load_model(directory)
    monkeypatch.setattr(model_type, "check_fits", lambda *_: None)
    pieces = load_model(directory).tokenizer.pre_tokenizer.pre_tokenize_str("1234")
    assert [piece for piece, _ in pieces] == ["123", "4"]
