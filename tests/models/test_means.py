"""Means and windows of text that are published beside a model are read in place of its training text."""

import dataclasses
import io
from pathlib import Path

import jax
import numpy as np
import pytest

import sparse_jax as sj
from sparse_jax.data.corpus import Corpus, SourceTokens
from sparse_jax.inputs import InputError
from sparse_jax.model.hooks import Hooks
from sparse_jax.models import means
from sparse_jax.models.formats import load_model, save_model
from tests.compiled import forward
from tests.planted import planted_model

RESULTS = Path(__file__).parents[2] / "experiments" / "results"


@pytest.fixture
def small(tmp_path, monkeypatch):
    """A copy of a published model, without its text, which cannot be prepared either."""

    def no_text(*_):
        raise InputError("data: the text is gone")

    monkeypatch.setattr(means, "prepare", no_text)
    save_model(load_model(RESULTS / "small" / "dense"), tmp_path / "model")
    (tmp_path / "model" / "text_128.npz").unlink()
    return load_model(tmp_path / "model")


@pytest.fixture
def compiled_as_users_do(name):
    """Of a sparse model it is the computation that takes time, not the compilation."""
    before = jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", before and name.endswith("dense"))
    yield
    jax.config.update("jax_disable_most_optimizations", before)


@pytest.mark.parametrize(
    "name",
    [
        "small/sparse",
        "small/dense",
        pytest.param("wider_pair/sparse", marks=pytest.mark.slow),
        "wider_pair/dense",
    ],
)
def test_the_published_means_are_over_the_published_text(name, monkeypatch, compiled_as_users_do):
    monkeypatch.setattr(means, "prepare", None)
    model = load_model(RESULTS / name)
    windows = means.text_windows(model)
    assert windows.shape == (128, 128)
    found = means.node_means(model.config, model.params, windows)
    for site, mean in means.load_means(RESULTS / name / "means_128.npz").items():
        np.testing.assert_allclose(found[site], mean, atol=1e-4, err_msg=site)


def test_windows_come_back_as_they_were_for_this_number_alone(small):
    windows = np.arange(256, dtype=np.int32).reshape(2, 128)
    means.save_windows(windows, f"{small.origin}/text_128.npz", small.fingerprint)
    found = means.text_windows(small)
    assert found.dtype == np.int32
    np.testing.assert_array_equal(found, windows)
    with pytest.raises(InputError, match="the text is gone"):
        means.text_windows(small, 64)


def test_means_of_another_model_are_not_taken(small, capsys):
    path = f"{small.origin}/means_128.npz"
    own = means.ablation_values(small, ("q",))
    np.testing.assert_array_equal(own["q"], means.load_means(path)["q"])
    means.save_means(means.load_means(path), path, "0" * 16)
    with pytest.raises(InputError, match="the text is gone"):
        means.ablation_values(small, ("q",))
    assert "belongs to model 0000000000000000" in capsys.readouterr().err
    with pytest.raises(InputError, match="belongs to model 0000000000000000; valid: means of model"):
        means.ablation_values(dataclasses.replace(small, run=None), ("q",))


@pytest.mark.parametrize("damage", ["nothing", "bytes", "another"])
def test_damaged_means_are_named_and_not_copied(small, tmp_path, damage):
    path = Path(small.origin) / "means_128.npz"
    content = bytearray(path.read_bytes())
    content[900:1000] = bytes(255 - byte for byte in content[900:1000])
    another = io.BytesIO()
    np.save(another, np.zeros(3))
    path.write_bytes({"nothing": b"", "bytes": content, "another": another.getvalue()}[damage])
    with pytest.raises(InputError, match=f"^means: {path} cannot be read \\(.+\\)$"):
        means.ablation_values(dataclasses.replace(small, run=None), ("q",))
    save_model(small, tmp_path / "copy")
    assert not (tmp_path / "copy" / "means_128.npz").exists()


def test_a_site_is_ablated_to_means_that_lack_another(small):
    path = f"{small.origin}/means_128.npz"
    some = means.load_means(path)
    del some["embed"]
    means.save_means(some, path, small.fingerprint)
    unknown = dataclasses.replace(small, run=None)
    for ablate in ("q", ["0.q.1", "1.v"], {"0.q": "mean", "embed": "zero"}):
        logits, _ = sj.run(unknown, "for x", ablate=ablate)
        assert np.isfinite(logits).all()
    with pytest.raises(InputError, match="with the means of embed"):
        sj.run(unknown, "for x", ablate={"0.q": "zero", "embed": "mean"})


def test_text_of_another_model_or_length_is_not_taken(small, capsys):
    path = f"{small.origin}/text_128.npz"
    means.save_windows(np.zeros((2, 128), int), path, "0" * 16)
    with pytest.raises(InputError, match="the text is gone"):
        means.text_windows(small)
    assert "belongs to model 0000000000000000" in capsys.readouterr().err
    with pytest.raises(InputError, match="belongs to model 0000000000000000; valid: text of model"):
        means.text_windows(dataclasses.replace(small, run=None))
    for shape, says in (((2, 64), "tokens of a window: 64 .* 128"), ((1, 2, 64), r"shape \[W, T\]")):
        means.save_windows(np.zeros(shape, int), path, small.fingerprint)
        with pytest.raises(InputError, match=says):
            means.text_windows(dataclasses.replace(small, run=None))
    means.save_windows(np.full((2, 128), 4096), path, small.fingerprint)
    with pytest.raises(InputError, match="text: 'ids 4096 to 4096'"):
        means.text_windows(small)


def test_the_last_residual_stream_can_be_ablated_to_its_mean():
    """Then every position has the logits of that mean, after the last norm."""
    model = planted_model()
    tokens = np.random.default_rng(0).integers(0, 8, 200).astype(np.uint16)
    corpus = Corpus(model.tokenizer, {"s": SourceTokens(tokens, tokens)}, {"s": 1.0}, "", {})
    values = means.ablation_values(model, ("final_resid",), windows=4, corpus=corpus)
    gates = {"final_resid": np.zeros(model.config.d_model, np.float32)}
    found = forward(model.config, model.params, tokens[None, :8], Hooks(gates, values))[0]
    mean, final = np.asarray(values["final_resid"]), model.params["final_norm"]["scale"]
    expected = mean / np.sqrt(np.mean(mean**2)) * final @ model.params["unembed"]["kernel"]
    np.testing.assert_allclose(found, np.broadcast_to(expected, found.shape), atol=1e-4)
