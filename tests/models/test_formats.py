"""Models of every format are recognized, and come back from each with the same bits."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer, models

from sparse_jax.inputs import InputError
from sparse_jax.model import sites
from sparse_jax.model.forward import param_shapes
from sparse_jax.models import workdir
from sparse_jax.models.compact import WEIGHTS
from sparse_jax.models.formats import OWN, WRITABLE, load_model, save_model
from sparse_jax.models.means import ablation_values, save_means, save_windows
from sparse_jax.models.model import Model
from sparse_jax.training.config import run_config
from sparse_jax.trees import map_named, named_leaves


@pytest.fixture
def model(config):
    numbers = np.random.default_rng(0)

    def leaf(name, shape):
        keep = numbers.random(shape.shape) < (0.1 if name.endswith("kernel") else 1)
        return (numbers.normal(size=shape.shape) * keep).astype(np.float32)  # some zeros are -0.0

    return Model(config.model, map_named(leaf, param_shapes(config.model)), Tokenizer(models.BPE()))


@pytest.mark.parametrize("kind", WRITABLE)
def test_how_a_model_computes_is_kept_or_refused(tmp_path, model, kind):
    half = dataclasses.replace(model.config, compute_dtype="bfloat16")
    model = dataclasses.replace(model, config=half)
    if kind in OWN:
        save_model(model, tmp_path / "out", kind)
        assert load_model(tmp_path / "out").fingerprint == model.fingerprint
        return
    with pytest.raises(InputError, match="^model.compute_dtype: 'bfloat16' .* valid: 'float32', or the"):
        save_model(model, tmp_path / "out", kind)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("kind", WRITABLE)
@pytest.mark.parametrize("run_known", [True, False])
def test_there_and_back(tmp_path, model, config, kind, run_known):
    run = json.loads(config.to_json()) if run_known else None
    save_model(dataclasses.replace(model, run=run), tmp_path / "out", kind)
    found = load_model(tmp_path / "out")
    wanted, leaves = named_leaves(model.params), named_leaves(found.params)
    assert wanted.keys() == leaves.keys()
    for name, leaf in wanted.items():
        assert np.asarray(leaves[name]).tobytes() == leaf.tobytes(), name
    assert found.tokenizer.to_str() == model.tokenizer.to_str()
    assert found.fingerprint == model.fingerprint
    if kind in ("compact", "safetensors"):
        assert found.run is None if run is None else run_config(found.run) == config


@pytest.mark.parametrize("kind", WRITABLE)
def test_our_own_formats_get_the_means_and_the_text_beside_the_model(tmp_path, model, kind):
    save_model(model, tmp_path / "model")
    means = {site: np.full(shape, 0.5) for site, shape in sites.node_shapes(model.config).items()}
    save_means(means, tmp_path / "model" / "means_128.npz", model.fingerprint)
    save_means(means, tmp_path / "model" / "means_64.npz", "0" * 16)  # of another model
    for count, owner in ((2, model.fingerprint), (4, "0" * 16)):
        windows = np.ones((count, model.config.context), int)
        save_windows(windows, tmp_path / "model" / f"text_{count}.npz", owner)
    save_model(load_model(tmp_path / "model"), tmp_path / "out", kind)
    found = sorted(path.name for path in (tmp_path / "out").glob("*.npz"))
    assert found == (["means_128.npz", "text_2.npz"] if kind in OWN else [])
    if found:
        values = ablation_values(load_model(tmp_path / "out"), sites.NODE_SITES)
        assert all((value == 0.5).all() for value in values.values())


@pytest.mark.parametrize("kind", ["compact", "safetensors"])
def test_a_bigram_table_as_a_product_comes_back(tmp_path, make, kind):
    model = make(bigram_table_rank=5)
    save_model(model, tmp_path / "out", kind)
    found = load_model(tmp_path / "out")
    assert found.config == model.config and found.config.bigram_table_rank == 5
    assert named_leaves(found.params)["bigram/next/kernel"].shape == (5, 24)
    assert found.fingerprint == model.fingerprint


@pytest.mark.parametrize("kind", ["openai", "hf"])
def test_a_format_that_has_no_such_product_refuses_it(tmp_path, make, kind):
    with pytest.raises(InputError, match="^model.bigram_table_rank: 5 is not valid; valid: None, as the rel"):
        save_model(make(bigram_table_rank=5), tmp_path / "out", kind)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("kind, known", [("sparse", "4e5eaf72e6c4e7ad"), ("dense", "c8a9225aefdce759")])
def test_the_published_models_keep_their_fingerprints(kind, known):
    model = load_model(Path(__file__).parents[2] / "experiments" / "results" / "small" / kind)
    assert model.fingerprint == known and model.config.bigram_table_rank is None


def test_the_dense_file_is_the_larger_one(tmp_path, model):
    for kind in ("compact", "safetensors"):
        save_model(model, tmp_path / kind, kind)
    sizes = {kind: (tmp_path / kind / WEIGHTS).stat().st_size for kind in ("compact", "safetensors")}
    entries = sum(leaf.size for leaf in named_leaves(model.params).values())
    assert sizes["safetensors"] > 4 * entries > 1.2 * sizes["compact"]


@pytest.mark.parametrize("kind", WRITABLE)
def test_a_tokenizer_is_read_without_padding_and_refused_if_it_does_not_fit(tmp_path, model, kind):
    save_model(model, tmp_path / "out", kind)
    letters = Tokenizer(models.BPE(vocab={"a": 0, "b": 299}, merges=[]))
    letters.enable_padding(length=9)
    letters.enable_truncation(1)
    letters.save(str(tmp_path / "out" / "tokenizer.json"))
    assert load_model(tmp_path / "out").tokenizer.encode("ab").ids == [0, 299]
    Tokenizer(models.BPE(vocab={"a": 300}, merges=[])).save(str(tmp_path / "out" / "tokenizer.json"))
    with pytest.raises(InputError, match=r"tokenizer: 301 ids, .* vocabulary of 300; valid: at most 300"):
        load_model(tmp_path / "out")


def test_the_tokenizer_of_a_checkpoint_is_read_without_padding(tmp_path, model, config, monkeypatch):
    letters = Tokenizer(models.BPE(vocab={"a": 0, "b": 299}, merges=[]))
    letters.enable_padding(length=9)
    facts = {"config": config.to_json(), "tokenizer": letters.to_str()}
    monkeypatch.setattr(workdir, "read_facts", lambda path: facts)
    monkeypatch.setattr(workdir, "read_params", lambda *_: model.params)
    assert workdir.read_workdir(tmp_path, 4).tokenizer.encode("ab").ids == [0, 299]
    facts["tokenizer"] = "{}"
    with pytest.raises(InputError, match="checkpoint: .* cannot be read"):
        workdir.read_workdir(tmp_path, 4)


def test_a_tokenizer_in_memory_is_refused_if_it_does_not_fit(model):
    words = Tokenizer(models.BPE(vocab={chr(256 + i): i for i in range(300)}, merges=[]))
    assert dataclasses.replace(model, tokenizer=words).tokenizer is words
    for change in (words.enable_padding, lambda: words.enable_truncation(1)):
        change()
        with pytest.raises(
            InputError, match=r"tokenizer: it truncates or pads .*no_truncation\(\) and no_pad"
        ):
            dataclasses.replace(model, tokenizer=words)
        words.no_padding()
    words.no_truncation()
    words.add_tokens(["c"])
    with pytest.raises(InputError, match=r"tokenizer: 301 ids, 0 to 300, .* vocabulary of 300"):
        dataclasses.replace(model, tokenizer=words)


def test_a_fingerprint_tells_weights_and_architectures_apart(model):
    other = map_named(lambda name, leaf: leaf + (name == "logit_bias"), model.params)
    same = dataclasses.replace(model, origin="elsewhere", tokenizer=None)
    changed = dataclasses.replace(model.config, activation_fraction=0.5)
    assert same.fingerprint == model.fingerprint
    assert dataclasses.replace(model, params=other).fingerprint != model.fingerprint
    assert dataclasses.replace(model, config=changed).fingerprint != model.fingerprint


def test_a_model_is_sparse_if_a_weight_between_nodes_is_zero(model):
    assert model.kind == "sparse"
    dense = map_named(lambda name, leaf: leaf if name == "embed/kernel" else leaf + 9, model.params)
    assert dataclasses.replace(model, params=dense).kind == "dense"


def test_without_a_tokenizer_a_model_is_converted_but_not_pruned(tmp_path, model):
    save_model(Model(model.config, model.params), tmp_path / "out")
    found = load_model(tmp_path / "out")
    assert found.tokenizer is None
    with pytest.raises(InputError, match=r"no tokenizer\.json"):
        found.require_tokenizer()


@pytest.mark.parametrize("kind", WRITABLE)
def test_an_existing_target_stays_as_it_is(tmp_path, model, kind):
    (tmp_path / "out").mkdir()
    with pytest.raises(InputError, match="exists"):
        save_model(model, tmp_path / "out", kind)
    assert list((tmp_path / "out").iterdir()) == []


def test_an_unknown_format_and_an_empty_directory_are_named(tmp_path, model):
    with pytest.raises(InputError, match="format: 'opnai' is unknown; did you mean 'openai'"):
        save_model(model, tmp_path / "out", "opnai")
    with pytest.raises(InputError, match="no model was found there"):
        load_model(tmp_path)
    with pytest.raises(InputError, match="does not exist"):
        load_model(tmp_path / "nowhere")
