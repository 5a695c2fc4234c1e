"""The whole network in Flax Linen: embeddings, stacked blocks, and the way to the logits."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from sparse_jax.model import sites
from sparse_jax.model.config import ModelConfig
from sparse_jax.model.hooks import Hooks
from sparse_jax.model.layers import INIT_SCALE, Attention, Mlp, norm, point

BIGRAM_INIT_SCALE = 0.02


class Block(nn.Module):
    """Attention, then MLP, each added to the residual stream; the body of the scan over layers."""

    config: ModelConfig

    @nn.compact
    def __call__(self, x, per_layer, position, start):
        """x [B, T, D], per_layer = (hooks, cache) of this layer -> x, (captured, cache)."""
        hooks, cache = per_layer
        captured = {}
        x = point(self.config, "resid_in", x, hooks, captured)
        delta, cache = Attention(self.config, name="attn")(x, position, hooks, captured, cache, start)
        x = self._add(x, delta, "resid_mid", hooks, captured)
        delta = Mlp(self.config, name="mlp")(x, position, hooks, captured)
        x = self._add(x, delta, "resid_out", hooks, captured)
        return x, (captured, cache)

    def _add(self, x, delta, site, hooks, captured):
        x = x + delta
        if self.config.residual_activation == "relu":
            x = jax.nn.relu(x)
        return point(self.config, site, x, hooks, captured)


class Transformer(nn.Module):
    """Token ids to logits, with every node site open to hooks."""

    config: ModelConfig

    @nn.compact
    def __call__(self, tokens_BxT, hooks: Hooks, at_B=None, cache=None, start=0):
        """Returns (logits [B, T, V] or, with `at_B`, [B, V]; captured; cache)."""
        config = self.config
        layer_hooks, final_hooks = hooks.split(config.n_layers)
        embedding = self._matrix("embed", (config.vocab_size, config.d_model))
        x = embedding.astype(config.compute_dtype)[tokens_BxT]
        x, position = self._positions(x, start)
        x, (captured, cache) = self._blocks()(x, (layer_hooks, cache), position, start)
        if at_B is not None:
            x = jnp.take_along_axis(x, at_B[:, None, None], axis=1)[:, 0]
            tokens_BxT = jnp.take_along_axis(tokens_BxT, at_B[:, None], axis=1)[:, 0]
        x = point(config, sites.FINAL_SITE, x, final_hooks, captured)
        x = norm(config, "final_norm")(x)
        unembedding = self._unembedding(embedding).astype(x.dtype)
        logits = jnp.matmul(x, unembedding, preferred_element_type=jnp.float32)
        if config.bigram != "none":
            logits = logits + self._bigram()[tokens_BxT]
        logits = logits + self.param("logit_bias", nn.initializers.zeros, (config.vocab_size,))
        return logits, captured, cache

    def _matrix(self, name: str, shape: tuple[int, int], init=None) -> jax.Array:
        init = init or nn.initializers.normal(INIT_SCALE)
        return _Matrix(shape, init, name=name)()

    def _positions(self, x, start):
        config = self.config
        if config.positions == "none":
            return x, None
        width = config.d_position or config.d_model
        init = sinusoids if config.positions == "sinusoidal" else None
        table = self._matrix("position", (config.context, width), init)
        rows = jax.lax.dynamic_slice_in_dim(table, start, x.shape[1]).astype(x.dtype)
        return (x + rows, None) if config.positions == "added" else (x, rows)

    def _blocks(self) -> nn.Module:
        config = self.config
        block = nn.remat(Block, prevent_cse=config.unroll) if config.remat else Block
        return nn.scan(
            block,
            variable_axes={"params": 0},
            split_rngs={"params": True},
            in_axes=(0, nn.broadcast, nn.broadcast),
            length=config.n_layers,
            unroll=config.n_layers if config.unroll else 1,
        )(config, name="layers")

    def _unembedding(self, embedding: jax.Array) -> jax.Array:
        if self.config.tied_embedding:
            return embedding.T
        return self._matrix("unembed", (self.config.d_model, self.config.vocab_size))

    def _bigram(self) -> jax.Array:
        size = self.config.vocab_size
        return self._matrix("bigram", (size, size), nn.initializers.uniform(BIGRAM_INIT_SCALE))


class _Matrix(nn.Module):
    """One float32 matrix under the name "<name>/kernel"."""

    shape: tuple[int, int]
    init: nn.initializers.Initializer

    @nn.compact
    def __call__(self) -> jax.Array:
        return self.param("kernel", self.init, self.shape)


def sinusoids(_, shape: tuple[int, int], dtype=jnp.float32) -> jax.Array:
    """Fixed sines and cosines [T, P], periods spread evenly in log from 4 tokens to T."""
    steps, channels = shape
    half = max(1, channels // 2)
    periods = np.geomspace(4.0, max(4.0, float(steps)), half)
    angles = np.arange(steps)[:, None] * (2 * np.pi / periods)
    table = np.concatenate([np.sin(angles), np.cos(angles)], axis=1)
    table = np.pad(table, ((0, 0), (0, max(0, channels - table.shape[1]))))[:, :channels]
    return jnp.asarray(table, dtype)
