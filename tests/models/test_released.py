"""Released directories: recorded outputs of the reference, the round trip, what is wrong with a directory."""

import dataclasses
import json
import shutil

import jax
import numpy as np
import pytest

from sparse_jax.inputs import InputError
from sparse_jax.model.forward import forward
from sparse_jax.model.hooks import Hooks
from sparse_jax.models.formats import save_model
from sparse_jax.models.leaves import Given, places, read_leaves
from sparse_jax.models.model import Model
from sparse_jax.models.released import ROWS, read_released, write_released
from sparse_jax.models.torch_reader import read_torch_file
from sparse_jax.models.torch_writer import write_torch_file
from sparse_jax.trees import named_leaves
from tests.models.conftest import DATA

NAMES = ("legacy_catpos_bigrambuf", "sink_bigram_sparse", "tied_relu_resid")
VARIANTS = {
    "default": {},
    "dense": {"norm": "layer", "positions": "added", "activation_fraction": None, "tied_embedding": True},
    "no norm bias": {"norm": "layer", "norm_bias": False, "bias": False, "attention_sink": False},
    "sinusoidal": {
        "positions": "sinusoidal",
        "d_position": 5,
        "bigram": "fixed",
        "topk_sites": ("resid_out", "q"),
    },
    "concatenated": {"positions": "concatenated", "d_position": 4, "bigram": "none", "topk_sites": ()},
    "relu": {"activation": "relu", "residual_activation": "relu", "activation_fraction": 0.5},
}


@pytest.mark.parametrize("name", NAMES)
def test_logits_and_activations_are_those_of_the_reference(released, name):
    model = read_released(released / name)
    recorded = np.load(DATA / "parity" / f"{name}.npz")
    sites = tuple(entry[6:] for entry in recorded if entry.startswith("sites/"))
    config = dataclasses.replace(model.config, unroll=False)
    run = jax.jit(lambda params, tokens: forward(config, params, tokens, Hooks(capture=sites)))
    logits, captured = run(model.params, recorded["tokens"])
    found = {"logits": logits, **{site: captured[site][..., :1, -8:, :] for site in sites}}
    wanted = {"logits": recorded["logits"], **{site: recorded[f"sites/{site}"] for site in sites}}
    for what, expected in wanted.items():
        error = np.max(np.abs(found[what] - expected)) / np.max(np.abs(expected))
        assert error < 1e-5, what


def assert_same(found: Model, wanted: Model):
    assert found.config == wanted.config
    wanted_leaves, found_leaves = named_leaves(wanted.params), named_leaves(found.params)
    assert found_leaves.keys() == wanted_leaves.keys()
    for name, leaf in wanted_leaves.items():
        assert np.asarray(found_leaves[name]).tobytes() == np.asarray(leaf).tobytes(), name


@pytest.mark.parametrize("variant", VARIANTS)
def test_ours_comes_back_with_the_same_bits(tmp_path, make, variant):
    model = make(**VARIANTS[variant])
    write_released(model, tmp_path / "out")
    assert_same(read_released(tmp_path / "out"), model)


@pytest.mark.parametrize("name", NAMES)
def test_what_was_released_is_written_with_the_same_tensors(released, tmp_path, name):
    write_released(read_released(released / name), tmp_path / "out")
    before, after = (
        read_torch_file(folder / "final_model.pt") for folder in (released / name, tmp_path / "out")
    )
    added = after.keys() - before.keys()
    assert added <= {"final_logits_bias"}
    gone = before.keys() - after.keys()
    assert all(tensor.endswith(".attn.bias") for tensor in gone)
    for tensor in before.keys() & after.keys():
        np.testing.assert_array_equal(after[tensor].read(), before[tensor].read(), err_msg=tensor)


def change_tensors(directory, change):
    path = directory / "final_model.pt"
    tensors = {name: np.array(tensor.read()) for name, tensor in read_torch_file(path).items()}
    change(tensors)
    path.unlink()
    write_torch_file(path, tensors.items())


def change_config(directory, **fields):
    path = directory / "beeg_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))


QUERY = "transformer.h.1.attn.c_attn.weight"
TENSOR_FAULTS = {
    "missing": (lambda t: t.pop(QUERY), f"{QUERY}' is missing.*192, 64"),
    "extra": (lambda t: t.update(more=np.zeros(3)), "'more' is not in the config"),
    "shape": (lambda t: t.update({QUERY: t[QUERY].T}), r"\(64, 192\); valid: \(192, 64\)"),
    "nan": (
        lambda t: t[QUERY].__setitem__((3, 4), np.nan),
        f"{QUERY}' contains 1 values that are not finite",
    ),
    "infinity": (lambda t: t[QUERY].__setitem__((3, 4), np.inf), "not finite"),
    "untied": (lambda t: t["lm_head.weight"].__setitem__((0, 0), 9), "differs from 'transformer.wte.weight'"),
}


@pytest.mark.parametrize("fault", TENSOR_FAULTS)
def test_tensors_that_are_not_those_of_the_config_are_named(released, tmp_path, fault):
    change, said = TENSOR_FAULTS[fault]
    directory = shutil.copytree(released / "tied_relu_resid", tmp_path / "model")
    change_tensors(directory, change)
    with pytest.raises(InputError, match=said):
        read_released(directory)


@pytest.mark.parametrize(
    "fields, said",
    [
        ({"d_mlp": 128}, r"c_fc.weight' has shape \(160, 64\); valid: \(128, 64\)"),
        ({"bias": False}, "'transformer.h.0.attn.c_attn.bias' is not in the config"),
        ({"sink": True}, "sink_logit' is missing"),
        ({"enable_bigram_table": True}, "bigram_table' is missing"),
        ({"n_layer": 3}, "transformer.h.2.*is missing"),
        ({"n_layer": 1}, "'transformer.h.1"),
        ({"rms_norm": False}, "ln_1.bias' is missing"),
        ({"block_size": 20}, "wpe.weight' has shape"),
        ({"d_pos_emb": 8}, "wpe.weight' has shape|is missing"),
        ({"colour": 1}, "beeg_config.colour: unknown field"),
    ],
)
def test_a_config_that_contradicts_the_tensors_is_refused(released, tmp_path, fields, said):
    directory = shutil.copytree(released / "tied_relu_resid", tmp_path / "model")
    change_config(directory, **fields)
    with pytest.raises(InputError, match=said):
        read_released(directory)


def test_a_mask_that_is_not_causal_is_refused(released, tmp_path):
    directory = shutil.copytree(released / "legacy_catpos_bigrambuf", tmp_path / "model")
    change_tensors(directory, lambda t: t["transformer.h.0.attn.bias"].__setitem__((0, 0, 0, 1), 1))
    with pytest.raises(InputError, match="is not a causal mask; valid: a lower triangle of ones"):
        read_released(directory)


@pytest.mark.parametrize("name", ["beeg_config.json", "final_model.pt"])
@pytest.mark.parametrize("keep", [0, 0.5, 0.999, None])
def test_a_truncated_or_missing_file_is_named(released, tmp_path, name, keep):
    directory = shutil.copytree(released / "tied_relu_resid", tmp_path / "model")
    path = directory / name
    if keep is None:
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[: int(keep * path.stat().st_size)])
    with pytest.raises(InputError, match=name):
        read_released(directory)


def test_an_existing_target_stays_as_it_is(tmp_path, make):
    target = tmp_path / "out"
    target.mkdir()
    (target / "mine.txt").write_text("mine")
    with pytest.raises(InputError, match="exists"):
        save_model(make(), target, "openai")
    assert [path.name for path in tmp_path.rglob("*")] == ["out", "mine.txt"]


def test_parameters_of_another_model_leave_nothing_behind(tmp_path, make):
    mixed = Model(make().config, make(d_mlp=24).params)
    with pytest.raises(InputError, match="parameters are not those"):
        save_model(mixed, tmp_path / "out", "openai")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "changes, said", [({"activation": "gelu_tanh"}, "activation"), ({"n_heads": 3}, "n_heads")]
)
def test_what_the_format_cannot_say_is_refused(tmp_path, make, changes, said):
    with pytest.raises(InputError, match=f"model.{said}"):
        write_released(make(**changes), tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("dtype", ["int64", "uint8", "bool"])
def test_other_numbers_are_no_weights(make, dtype):
    config = make().config
    wanted = places(ROWS, config)
    tensors = {name: Given(np.zeros(place.shape, dtype)) for name, place in wanted.items()}
    with pytest.raises(InputError, match=f"{dtype}; valid: float32"):
        read_leaves(tensors, wanted, config, "here")
