"""The network in Flax Linen: embeddings, stacked blocks, unembedding."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from sparse_jax.model import sites
from sparse_jax.model.config import ModelConfig
from sparse_jax.model.hooks import Hooks
from sparse_jax.model.layers import INIT_SCALE, Attention, Captured, Mlp, normed, point
from sparse_jax.model.narrow import NarrowAttention, NarrowMlp
from sparse_jax.model.positions import Positions, take_tokens
from sparse_jax.model.products import rows_times_matrix

BIGRAM_INIT_SCALE = 0.02

Shardings = tuple[jax.sharding.Sharding, ...]


class Block(nn.Module):
    """Attention, then MLP, each added to the residual stream; one layer of the stack.

    stream: shardings of the residual stream, as in `Transformer`.
    """

    config: ModelConfig
    stream: Shardings = ()

    @nn.compact
    def __call__(self, x, per_layer, position, positions: Positions, at_BxA=None):
        """x [B, T, D], per_layer = (hooks, cache, narrow) of this layer -> x, (captured, cache).

        With `at_BxA` only those tokens are computed, x [B, A, D]; the others only provide keys and values.
        """
        hooks, cache, narrow = per_layer
        captured: Captured = {}
        x = point(self.config, "resid_in", laid_out(x, self.stream[-1:]), hooks, captured)
        if narrow is None:
            attention = Attention(self.config, name="attn")
            delta, cache = attention(x, position, hooks, captured, cache, positions, at_BxA)
        else:
            of_chosen = NarrowAttention(self.config, name="attn")
            delta = of_chosen(x, position, hooks, narrow, positions, at_BxA)
        if at_BxA is not None:
            x, hooks = take_tokens(x, at_BxA), hooks.at(at_BxA)
            narrow = None if narrow is None else narrow.at(at_BxA)
            position = None if position is None else take_tokens(position, at_BxA)
        x = self._add(x, delta, "resid_mid", hooks, captured)
        if narrow is None:
            delta = Mlp(self.config, name="mlp")(x, position, hooks, captured)
        else:
            delta = NarrowMlp(self.config, name="mlp")(x, position, hooks, narrow)
        x = self._add(x, delta, "resid_out", hooks, captured)
        return x, (captured, cache)

    def _add(self, x, delta, site, hooks, captured):
        x = x + delta
        if self.config.residual_activation == "relu":
            x = jax.nn.relu(x)
        return point(self.config, site, x, hooks, captured)


class Transformer(nn.Module):
    """Token ids to logits, with hooks at every node site.

    stream: shardings of the residual stream [B, T, D], applied one after the other to the output of the
    embedding, and the last one at the start of every layer. Without them, the compiler may split the stream
    along D, as the parameters are, and then has to move it between devices in every layer.
    """

    config: ModelConfig
    stream: Shardings = ()

    @nn.compact
    def __call__(self, tokens_BxT, hooks: Hooks, positions: Positions, at_BxA=None, cache=None, narrow=None):
        """Returns (logits [B, T, V] or, with `at_BxA`, [B, A, V]; captured; cache)."""
        config = self.config
        layer_hooks, outer_hooks = hooks.split(config.n_layers)
        embedding = self._matrix("embed", (config.vocab_size, config.d_model))
        x = embedding.astype(config.compute_dtype)[tokens_BxT]
        x, position = self._positions(x, positions)
        captured: Captured = {}
        # of all tokens, even with `at_BxA`: all provide keys and values
        x = point(config, sites.EMBED_SITE, laid_out(x, self.stream), outer_hooks, captured)
        x, (in_layers, cache) = self._layers(x, (layer_hooks, cache, narrow), position, positions, at_BxA)
        captured |= in_layers
        if at_BxA is not None:
            outer_hooks = outer_hooks.at(at_BxA)
            tokens_BxT = jnp.take_along_axis(tokens_BxT, at_BxA, axis=1)
        x = point(config, sites.FINAL_SITE, x, outer_hooks, captured)
        x = normed(config, "final_norm", sites.FINAL_NORM, x, outer_hooks, captured)
        unembedding = self._unembedding(embedding).astype(x.dtype)
        logits = rows_times_matrix(x, unembedding, preferred_element_type=jnp.float32)
        if config.bigram != "none":
            logits = logits + self._bigram(tokens_BxT, x.dtype)
        logits = logits + self.param("logit_bias", nn.initializers.zeros, (config.vocab_size,))
        return logits, captured, cache

    def _layers(self, x, per_layer, position, positions, at_BxA):
        """All blocks, one after the other; with `at_BxA`, x is [B, A, D] at the end."""
        config = self.config
        if self.is_initializing():
            return self._declare_layers(x, per_layer, position, positions)
        layers = self.variables["params"]["layers"]
        # in the last block, other tokens do not affect the logits of `at_BxA`
        split = at_BxA is not None and not per_layer[0].see_all_positions
        count = config.n_layers - 1 if split else config.n_layers
        first = jax.tree.map(lambda leaf: leaf[:count], (layers, *per_layer))

        def body(x, of_layer):
            params, *rest = of_layer
            return run_block(config, self.stream, params, x, rest, position, positions)

        unroll = count if config.unroll else 1
        found = None
        # A loop takes longer to trace, most of all for gradients. Deeper models keep it where one layer is
        # left, so that what was pruned with it can be repeated bit for bit.
        if config.n_layers > 1:
            x, found = jax.lax.scan(body, x, first, length=count, unroll=unroll)
        elif count:
            x, found = body(x, jax.tree.map(lambda leaf: leaf[0], first))
            found = jax.tree.map(lambda leaf: leaf[None], found)
        if split:
            params, *rest = jax.tree.map(lambda leaf: leaf[-1], (layers, *per_layer))
            x, found = run_block(config, self.stream, params, x, rest, position, positions, at_BxA)
        elif at_BxA is not None:
            x = take_tokens(x, at_BxA)
        return x, found

    def _declare_layers(self, *arguments):
        """Declares the stacked parameters of the blocks."""
        return nn.scan(
            Block,
            variable_axes={"params": 0},
            split_rngs={"params": True},
            in_axes=(0, nn.broadcast, nn.broadcast),
            length=self.config.n_layers,
        )(self.config, name="layers")(*arguments)

    def _matrix(self, name: str, shape: tuple[int, int], init=None) -> jax.Array:
        init = init or nn.initializers.normal(INIT_SCALE)
        return _Matrix(shape, init, name=name)()

    def _positions(self, x, positions):
        """The stream, with positions added if any, and the position channels [B, T, P] or None."""
        config = self.config
        if config.positions == "none":
            return x, None
        width = config.d_position or config.d_model
        init = sinusoids if config.positions == "sinusoidal" else None
        table = self._matrix("position", (config.context, width), init)
        rows = jnp.broadcast_to(table.astype(x.dtype)[positions.index], (*x.shape[:2], width))
        return (x + rows, None) if config.positions == "added" else (x, rows)

    def _unembedding(self, embedding: jax.Array) -> jax.Array:
        if self.config.tied_embedding:
            return embedding.T
        return self._matrix("unembed", (self.config.d_model, self.config.vocab_size))

    def _bigram(self, tokens_BxT: jax.Array, dtype: jnp.dtype) -> jax.Array:
        """The tokens' rows [B, T, V] of the bigram table; those of a product are made in `dtype`."""
        size, rank = self.config.vocab_size, self.config.bigram_table_rank
        if rank is None:
            init = nn.initializers.uniform(BIGRAM_INIT_SCALE)
            return self._matrix("bigram", (size, size), init)[tokens_BxT]
        current_VxR, next_RxV = _Factors(size, rank, name="bigram")()
        rows_BxTxR = laid_out(current_VxR.astype(dtype)[tokens_BxT], self.stream)
        return rows_times_matrix(rows_BxTxR, next_RxV.astype(dtype), preferred_element_type=jnp.float32)


def laid_out(x: jax.Array, shardings: Shardings) -> jax.Array:
    """x, constrained to the shardings, one after the other."""
    for sharding in shardings:
        x = jax.lax.with_sharding_constraint(x, sharding)
    return x


def run_block(config, stream: Shardings, params, x, per_layer, position, positions, at_BxA=None):
    """Runs one block with the parameters of its layer."""

    def run(params, x, per_layer, position, positions, at_BxA):
        block = Block(config, stream, parent=None)
        return block.apply({"params": params}, x, per_layer, position, positions, at_BxA)

    if config.remat:
        run = jax.checkpoint(run, prevent_cse=config.unroll)
    return run(params, x, per_layer, position, positions, at_BxA)


class _Matrix(nn.Module):
    """A float32 matrix named "<name>/kernel"."""

    shape: tuple[int, int]
    initializer: nn.initializers.Initializer

    @nn.compact
    def __call__(self) -> jax.Array:
        return self.param("kernel", self.initializer, self.shape)


class _Factors(nn.Module):
    """A matrix [V, V] as a product of "<name>/current/kernel" [V, R] and "<name>/next/kernel" [R, V]."""

    size: int
    rank: int

    @nn.compact
    def __call__(self) -> tuple[jax.Array, jax.Array]:
        init = nn.initializers.normal(INIT_SCALE)
        current_VxR = _Matrix((self.size, self.rank), init, name="current")()
        return current_VxR, _Matrix((self.rank, self.size), init, name="next")()


def sinusoids(_, shape: tuple[int, int], dtype=jnp.float32) -> jax.Array:
    """Fixed sines and cosines [T, P], with log-spaced periods from 4 tokens to T."""
    steps, channels = shape
    half = max(1, channels // 2)
    periods = np.geomspace(4.0, max(4.0, float(steps)), half)
    angles = np.arange(steps)[:, None] * (2 * np.pi / periods)
    table = np.concatenate([np.sin(angles), np.cos(angles)], axis=1)
    table = np.pad(table, ((0, 0), (0, max(0, channels - table.shape[1]))))[:, :channels]
    return jnp.asarray(table, dtype)
