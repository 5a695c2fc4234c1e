"""Windows of text that are published beside a model are read in place of its training text."""

import dataclasses
from pathlib import Path

import jax
import numpy as np
import pytest

from sparse_jax.inputs import InputError
from sparse_jax.models import means
from sparse_jax.models.formats import load_model, save_model

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
