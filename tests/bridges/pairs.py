"""Small pairs of models that bridges can lead between, exactly or not."""

import dataclasses
import functools

import jax
import numpy as np
from tokenizers import Tokenizer, models

from sparse_jax.bridges.maps import new_bridges
from sparse_jax.bridges.train import BridgedPair
from sparse_jax.model.config import ModelConfig
from sparse_jax.model.forward import param_shapes
from sparse_jax.models.model import Model
from sparse_jax.trees import map_named

VOCABULARY, CONTEXT = 12, 8
SPARSE = ModelConfig(VOCABULARY, CONTEXT, 2, 8, d_head=4, activation_fraction=0.5, unroll=False)
DENSE = ModelConfig(
    VOCABULARY, CONTEXT, 2, 6, d_head=3, activation_fraction=None, positions="added", bigram="none"
)


@functools.cache
def model(config, seed=0):
    """A model whose weights are large enough for every part of it to count."""
    rng = np.random.default_rng(seed)

    def drawn(name, x):
        values = np.ones(x.shape) if "scale" in name else rng.normal(0, 0.3, x.shape)
        return values.astype(x.dtype)

    params = jax.device_put(map_named(drawn, param_shapes(config)))
    tokenizer = Tokenizer(models.WordLevel({f"w{i}": i for i in range(VOCABULARY)}, "w0"))
    return Model(config, params, tokenizer, f"model {seed}")


@functools.cache
def random_pair(n_layers=2):
    """Two models that have nothing to do with each other."""
    sparse, dense = (dataclasses.replace(config, n_layers=n_layers) for config in (SPARSE, DENSE))
    bridges = jax.jit(new_bridges, static_argnums=(0, 1))(sparse, dense, jax.random.key(3))
    return BridgedPair(model(sparse), model(dense, 7), bridges, 4)


@functools.cache
def exact_pair(config=DENSE):
    """A model and the same with its channels in another order; bridges that put them back."""
    dense = model(config)
    order = np.random.default_rng(0).permutation(config.d_model)

    def reordered(name, x):
        if name.startswith("layers"):
            if "out/" in name or "down/" in name:
                return x[..., order]
            return x[:, order] if any(part in name for part in ("norm", "q/k", "k/k", "v/k", "up/k")) else x
        if name in ("embed/kernel", "position/kernel"):
            return x[:, order]
        return x[order] if name in ("unembed/kernel", "final_norm/scale") else x

    params = jax.device_put(map_named(reordered, jax.device_get(dense.params)))
    sparse = Model(config, params, dense.tokenizer, "reordered")
    count, eye = 2 * config.n_layers + 1, np.eye(config.d_model, dtype=np.float32)
    biases = np.zeros((count, config.d_model), np.float32)
    kernels = {"encoder": np.stack([eye[:, order]] * count), "decoder": np.stack([eye[order]] * count)}
    bridges = {name: {"kernel": kernel, "bias": biases} for name, kernel in kernels.items()}
    return BridgedPair(sparse, dense, jax.device_put(bridges), config.d_model)


def some_tokens(rows=3, length=CONTEXT):
    return np.random.default_rng(1).integers(0, VOCABULARY, (rows, length)).astype(np.int32)
