"""A model comes back from its small folder with the same bits, or with a line that says what is wrong."""

import json

import jax
import numpy as np
import pytest
import safetensors.numpy
from tokenizers import Tokenizer, models

from sparse_jax.inputs import InputError
from sparse_jax.model.forward import initialize
from sparse_jax.models.compact import WEIGHTS, is_compact, write_compact
from sparse_jax.models.formats import load_model
from sparse_jax.models.model import Model
from sparse_jax.training.config import run_config
from sparse_jax.trees import map_named, named_leaves

THINNEST = "layers/mlp/up/kernel"


@pytest.fixture
def params(config):
    """Nine of ten entries are zero in the matrices, 99 of 100 in one of them, and one leaf is all zero."""

    def thin(name, leaf):
        keep = jax.random.bernoulli(jax.random.key(1), 0.01 if name == THINNEST else 0.1, leaf.shape)
        return leaf * keep if name.endswith("kernel") else leaf

    return map_named(thin, initialize(config.model, jax.random.key(0)))


@pytest.fixture
def folder(tmp_path, config, params):
    run = json.loads(config.to_json())
    write_compact(Model(config.model, params, Tokenizer(models.BPE()), run=run), tmp_path / "model")
    return tmp_path / "model"


def test_the_same_bits_config_and_tokenizer_come_back(folder, config, params):
    model = load_model(folder)
    wanted, found = named_leaves(params), named_leaves(model.params)
    assert wanted.keys() == found.keys()
    for name, leaf in wanted.items():
        np.testing.assert_array_equal(found[name], leaf, err_msg=name)
    assert run_config(model.run) == config
    assert model.tokenizer.to_str() == Tokenizer(models.BPE()).to_str()


def test_zeros_take_a_bit_each_or_nothing_where_there_are_many(folder, params):
    leaves = named_leaves(params).values()
    nonzero = [int(np.count_nonzero(leaf)) for leaf in leaves]
    where = sum(min(-(-leaf.size // 8), 4 * count) for leaf, count in zip(leaves, nonzero))
    assert where < sum(-(-leaf.size // 8) for leaf in leaves)
    content = 4 * sum(nonzero) + where
    header = 200 * 2 * len(leaves)
    assert content < (folder / WEIGHTS).stat().st_size < content + header


def test_a_run_directory_is_not_taken_for_one(tmp_path, folder):
    assert is_compact(folder)
    assert not is_compact(tmp_path)


def _rewrite(folder, change):
    with safetensors.safe_open(folder / WEIGHTS, "numpy") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        metadata = file.metadata()
    change(tensors, metadata)
    (folder / WEIGHTS).write_bytes(safetensors.numpy.save(tensors, metadata))


@pytest.mark.parametrize(
    "change, said",
    [
        (lambda tensors, _: tensors.pop("embed/kernel.values"), "no embed/kernel"),
        (lambda tensors, _: tensors.update({"embed/kernel.nonzero": np.zeros(3, np.uint8)}), "no embed"),
        (
            lambda tensors, _: tensors.update({"embed/kernel.values": tensors["embed/kernel.values"][:-1]}),
            "values of embed/kernel",
        ),
        (lambda tensors, _: tensors.update({"embed/kernel.places": np.zeros(1, np.uint32)}), "no embed"),
        (lambda tensors, _: tensors[f"{THINNEST}.places"].fill(10**6), f"index 1000000 in {THINNEST}"),
        (lambda tensors, _: tensors.update({"more.values": np.zeros(1, np.float32)}), "more.values"),
        (lambda _, metadata: metadata.update(format="other"), "'other'"),
    ],
)
def test_a_file_that_does_not_fit_is_refused(folder, change, said):
    _rewrite(folder, change)
    with pytest.raises(InputError, match="model: .*" + said):
        load_model(folder)


@pytest.mark.parametrize("name", [WEIGHTS, "config.json", "tokenizer.json"])
def test_a_truncated_file_is_named(folder, name):
    path = folder / name
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(InputError, match=name):
        load_model(folder)


def test_a_foreign_tokenizer_is_named(folder):
    (folder / "tokenizer.json").write_text(json.dumps({"some": "thing"}))
    with pytest.raises(InputError, match="tokenizer.json' is not a tokenizer"):
        load_model(folder)
