"""A circuit that was found with frozen norms is run and scored with them by the public functions."""

import numpy as np
import pytest

import sparse_jax as sj
from sparse_jax.data.corpus import Corpus, SourceTokens
from sparse_jax.model import sites
from sparse_jax.model.hooks import Hooks
from sparse_jax.models import means
from tests.circuits.test_compact_circuit import circuit_of
from tests.compiled import forward
from tests.planted import Planted, planted_model

TASK = Planted("planted", "tests", "which digit is last")


@pytest.fixture(scope="module")
def model():
    """A model whose training text is prepared."""
    planted = planted_model()
    tokens = np.random.default_rng(0).integers(0, 8, 2000).astype(np.uint16)
    corpus = Corpus(planted.tokenizer, {"s": SourceTokens(tokens, tokens)}, {"s": 1.0}, "", {})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(means, "prepare", lambda *_: corpus)
        yield planted


def test_frozen_norms_are_those_of_the_full_model(model):
    circuit = circuit_of(model, pruning={"frozen_norms": True})
    pairs = TASK.encode("test", 4, 0, model.tokenizer, model.config.context)
    tokens, last = pairs.tokens.reshape(8, -1), pairs.last.reshape(8)

    gates, values = circuit.gates(model.config), means.ablation_values(model)
    norms = forward(model.config, model.params, tokens, Hooks(capture=sites.NORMS))[1]
    hooks = Hooks(gates, {site: values[site] for site in gates}, norms=norms)
    expected = np.asarray(forward(model.config, model.params, tokens, hooks)[0])
    found = sj.run(model, tokens, circuit=circuit)[0]
    np.testing.assert_allclose(found, expected, atol=1e-5)

    right, wrong = expected[np.arange(8), last][np.arange(8)[:, None], pairs.candidates.reshape(8, 2)].T
    loss = np.log1p(np.exp(wrong - right)).mean()
    assert sj.score(model, TASK, circuit=circuit, pairs=4).loss == pytest.approx(loss, abs=1e-5)
