"""A planted model, and the circuit that was put there by hand."""

import jax
import numpy as np
import pytest

from sparse_jax.faithfulness.probes import Probe
from sparse_jax.model import sites
from sparse_jax.model.hooks import Hooks
from tests.compiled import forward
from tests.faithfulness.hand_made import PAIRS, TASK, circuit_of
from tests.planted import CONFIG, planted_gates, planted_model


@pytest.fixture(scope="module")
def model():
    return planted_model()


@pytest.fixture(scope="module")
def values(model):
    tokens = jax.random.randint(jax.random.key(0), (16, 8), 0, 8)
    captured = forward(CONFIG, model.params, tokens, Hooks(capture=sites.NODE_SITES))[1]
    return {site: np.asarray(x.mean(axis=(-3, -2))) for site, x in captured.items()}


@pytest.fixture(scope="module")
def circuit(model, values, tmp_path_factory):
    return circuit_of(model, values, planted_gates(), tmp_path_factory.mktemp("planted"))


@pytest.fixture(scope="module")
def probe(model, circuit):
    return Probe(model, circuit, TASK.encode("test", PAIRS, 0, model.tokenizer, 8))
