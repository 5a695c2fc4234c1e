import jax
import numpy as np
import pytest

from sparse_jax.model.config import ModelConfig
from sparse_jax.model.forward import initialize


def scaled_params(config, seed):
    """Parameters with weights large enough to matter."""
    params = jax.device_get(initialize(config, jax.random.key(seed)))
    return jax.device_put(jax.tree.map(lambda x: np.float32(8) * x if x.ndim > 1 else x, params))


@pytest.fixture(scope="session")
def tiny():
    """A tiny model with every site sparse: (config, params with weights large enough to matter, tokens)."""
    config = ModelConfig(vocab_size=24, context=16, n_layers=2, d_model=16, d_head=4, unroll=False)
    return config, scaled_params(config, 0), jax.random.randint(jax.random.key(1), (3, 10), 0, 24)
