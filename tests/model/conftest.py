import jax
import pytest

from sparse_jax.model.config import ModelConfig
from sparse_jax.model.forward import initialize


@pytest.fixture(scope="session")
def tiny():
    """A tiny model with every site sparse: (config, params with weights large enough to matter, tokens)."""
    config = ModelConfig(vocab_size=24, context=16, n_layers=2, d_model=16, d_head=4, unroll=False)
    params = initialize(config, jax.random.key(0))
    params = jax.tree.map(lambda x: x * 8 if x.ndim > 1 else x, params)
    return config, params, jax.random.randint(jax.random.key(1), (3, 10), 0, 24)
