"""How alike two models predict: against SciPy, by hand, and on models that are the same."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats
from tokenizers import Tokenizer
from tokenizers.models import BPE

from experiments.studies import predictions as study
from experiments.studies.held_out import held_out_windows
from experiments.studies.predictions import SITES, correlation, predictions, report_rows, write_predictions
from sparse_jax.data.corpus import Corpus, SourceTokens, prepare
from sparse_jax.inputs import InputError
from sparse_jax.model.forward import initialize
from sparse_jax.models.model import Model
from sparse_jax.training.config import run_config
from sparse_jax.training.loss import next_token_loss
from tests.tiny_run import tiny


@pytest.fixture(scope="module")
def config(directory):
    return run_config(tiny(directory))


@pytest.fixture(scope="module")
def model(config):
    tokenizer = prepare(config.data, config.model.vocab_size).tokenizer
    params = jax.jit(initialize, static_argnums=0)(config.model, jax.random.key(0))
    return Model(config.model, params, tokenizer, "here")


@pytest.fixture(scope="module")
def windows(model):
    # more than one call, the last not full
    return np.random.default_rng(0).integers(0, model.config.vocab_size, (20, 9)).astype(np.int32)


def test_losses_are_those_of_training_and_kurtosis_that_of_scipy(model, windows):
    found = predictions(model, windows)
    assert found.losses_WxT.shape == (20, 8) and set(found.kurtosis) == set(SITES)
    expected = jax.jit(next_token_loss, static_argnums=0)(model.config, model.params, windows)
    np.testing.assert_allclose(found.losses_WxT.mean(), expected, rtol=1e-5)
    values = np.random.default_rng(1).gamma(1.0, size=(2, 3, 40, 2))
    by_scipy = stats.kurtosis(values.reshape(2, -1, 2), axis=1).mean()
    assert study._kurtosis(jnp.asarray(values)) == pytest.approx(by_scipy, rel=1e-4)
    assert study._kurtosis(jnp.asarray(values[0])) == pytest.approx(
        stats.kurtosis(values[0].reshape(-1, 2)).mean(), rel=1e-4
    )


def test_correlation_is_pearsons_over_all_tokens():
    rng = np.random.default_rng(0)
    first = rng.exponential(size=(40, 8))
    second = first + rng.exponential(size=(40, 8))
    found = correlation(first, second)
    assert found.value == pytest.approx(np.corrcoef(first.ravel(), second.ravel())[0, 1], abs=1e-12)
    assert found.low < found.value < found.high
    assert correlation(first, 2 * first + 1).low == pytest.approx(1)


def test_a_model_predicts_like_itself(model, windows, tmp_path):
    found = {name: predictions(model, windows) for name in ("sparse", "dense")}
    rows = report_rows(found, {"sparse": model, "dense": model})
    table = write_predictions(found, rows, tmp_path)
    assert "20 held-out windows: 1.000 [1.000, 1.000]" in table
    assert {path.name for path in tmp_path.iterdir()} == {"rows.jsonl", "table.md", "losses.png"}


def test_models_of_other_tokens_or_contexts_are_not_compared(model, config):
    study.require_comparable(model, model)
    shorter = dataclasses.replace(model, config=dataclasses.replace(model.config, context=8))
    with pytest.raises(InputError, match="model.context: .16, 8. is not valid; valid: the same in both"):
        study.require_comparable(model, shorter)
    other = dataclasses.replace(model, tokenizer=prepare(config.data, 280).tokenizer, origin="there")
    with pytest.raises(InputError, match="tokenizers of here and there differ; valid: the same"):
        study.require_comparable(model, other)


def test_held_out_text_is_of_each_source_by_its_weight():
    tokens = {name: np.full(400, value, np.uint16) for name, value in (("a", 1), ("b", 2))}
    sources = {name: SourceTokens(row[:0], row) for name, row in tokens.items()}
    corpus = Corpus(Tokenizer(BPE()), sources, {"a": 3.0, "b": 1.0}, "", {})
    windows = held_out_windows(corpus, 9, 8)
    assert windows.shape == (8, 10)
    np.testing.assert_array_equal(windows[:, 0], [1] * 6 + [2] * 2)
