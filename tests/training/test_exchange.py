"""Models of every format are recognized, and come back from each with the same bits."""

import numpy as np
import pytest
from tokenizers import Tokenizer, models

from sparse_jax.inputs import InputError
from sparse_jax.interop.model import Model
from sparse_jax.model.forward import param_shapes
from sparse_jax.training.compact import WEIGHTS
from sparse_jax.training.exchange import FORMATS, read_model, untrained, write_model
from sparse_jax.training.pretrained import load_pretrained
from sparse_jax.trees import map_named, named_leaves


@pytest.fixture
def model(config):
    numbers = np.random.default_rng(0)

    def leaf(name, shape):
        keep = numbers.random(shape.shape) < (0.1 if name.endswith("kernel") else 1)
        return (numbers.normal(size=shape.shape) * keep).astype(np.float32)  # some zeros are -0.0

    return Model(config.model, map_named(leaf, param_shapes(config.model)), Tokenizer(models.BPE()))


@pytest.mark.parametrize("kind, dense", [*((kind, False) for kind in FORMATS), ("safetensors", True)])
@pytest.mark.parametrize("run_known", [True, False])
def test_there_and_back(tmp_path, model, config, kind, dense, run_known):
    write_model(model, config if run_known else None, tmp_path / "out", kind, dense)
    found, run = read_model(tmp_path / "out")
    wanted, leaves = named_leaves(model.params), named_leaves(found.params)
    assert wanted.keys() == leaves.keys()
    for name, leaf in wanted.items():
        assert np.asarray(leaves[name]).tobytes() == leaf.tobytes(), name
    assert found.tokenizer.to_str() == model.tokenizer.to_str()
    if kind == "safetensors":
        assert run == (config if run_known else untrained(model.config))
        assert load_pretrained(tmp_path / "out").config == config.model


def test_the_dense_file_is_the_larger_one(tmp_path, model, config):
    for name, dense in (("nonzero", False), ("dense", True)):
        write_model(model, config, tmp_path / name, "safetensors", dense)
    sizes = {name: (tmp_path / name / WEIGHTS).stat().st_size for name in ("nonzero", "dense")}
    entries = sum(leaf.size for leaf in named_leaves(model.params).values())
    assert sizes["dense"] > 4 * entries > 1.2 * sizes["nonzero"]


def test_without_a_tokenizer_a_model_is_converted_but_not_pruned(tmp_path, model):
    write_model(Model(model.config, model.params), None, tmp_path / "out", "safetensors")
    assert read_model(tmp_path / "out")[0].tokenizer is None
    with pytest.raises(InputError, match=r"no tokenizer\.json"):
        load_pretrained(tmp_path / "out")


@pytest.mark.parametrize("kind", FORMATS)
def test_an_existing_target_stays_as_it_is(tmp_path, model, kind):
    (tmp_path / "out").mkdir()
    with pytest.raises(InputError, match="exists"):
        write_model(model, None, tmp_path / "out", kind)
    assert list((tmp_path / "out").iterdir()) == []


def test_an_unknown_format_and_an_empty_directory_are_named(tmp_path, model):
    with pytest.raises(InputError, match="--format: 'opnai' is unknown; did you mean 'openai'"):
        write_model(model, None, tmp_path / "out", "opnai")
    with pytest.raises(InputError, match="no model is there"):
        read_model(tmp_path)
