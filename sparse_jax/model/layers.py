"""The two sub-layers of a block, in Flax Linen: attention with a sink, and the MLP (METHOD 1, 2)."""

import functools
from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp

from sparse_jax.model import sites
from sparse_jax.model.attention import attend, attention_pattern
from sparse_jax.model.config import ModelConfig
from sparse_jax.model.hooks import Hooks
from sparse_jax.model.positions import Positions, take_tokens
from sparse_jax.model.products import rows_times_matrix
from sparse_jax.topk.rows import abs_top_k

INIT_SCALE = 0.02
RMS_EPSILON = float(jnp.finfo(jnp.float32).eps)
LAYER_NORM_EPSILON = 1e-5


def gelu(x: jax.Array) -> jax.Array:
    """Exact GELU: x times the normal distribution function, as PyTorch computes it.

    It uses erf, a single polynomial. `jax.nn.gelu` uses erfc, which takes 2.5 times as long on a CPU and
    differs only where the result is below 1e-7.
    """
    return 0.5 * x * (1 + jax.lax.erf(x * 2**-0.5))


ACTIVATION: dict[str, Callable[[jax.Array], jax.Array]] = {
    "gelu": gelu,
    "gelu_tanh": functools.partial(jax.nn.gelu, approximate=True),
    "relu": jax.nn.relu,
}

Captured = dict[str, jax.Array]

# A leaf [H, D] set only by edge gates: what a head adds to the stream, times the sum of its attention row.
HEAD_CONSTANTS = "head_constants"
# The beginning of the names of leaves set only by edge gates: a matrix's weights of closed edges.
CLOSED = "closed_"


def point(config: ModelConfig, site: str, x: jax.Array, hooks: Hooks, captured: Captured):
    """The named point that the values of `site` pass through: AbsTopK, hooks, capture."""
    kept = config.kept(site)
    if kept is not None:
        x = abs_top_k(x, kept, reused=site in sites.PRODUCT_SITES)
    x = hooks.apply(site, x)
    if site in hooks.capture:
        captured[site] = x
    return x


def norm(config: ModelConfig, name: str) -> nn.Module:
    """RMSNorm (a zero stays a zero) or LayerNorm, over the last axis, statistics in float32."""
    if config.norm == "rms":
        return nn.RMSNorm(epsilon=RMS_EPSILON, dtype=config.compute_dtype, name=name)
    return nn.LayerNorm(
        epsilon=LAYER_NORM_EPSILON,
        dtype=config.compute_dtype,
        use_bias=config.norm_bias,
        use_fast_variance=False,
        name=name,
    )


def linear(config: ModelConfig, width: int, name: str, scale: float = INIT_SCALE) -> nn.Module:
    """A matrix with optional bias; `scale` is the standard deviation of its initial entries."""
    return nn.Dense(
        width,
        use_bias=config.bias,
        dtype=config.compute_dtype,
        kernel_init=nn.initializers.normal(scale),
        dot_general=rows_times_matrix,
        name=name,
    )


def with_closed_edges(module: nn.Module, name: str, y: jax.Array, carried: jax.Array | None) -> jax.Array:
    """y, the product with the matrix `name`, plus what the matrix's closed edges carry, if there are any."""
    if carried is None or not module.has_variable("params", CLOSED + name):
        return y
    closed: jax.Array = module.get_variable("params", CLOSED + name)
    return y + rows_times_matrix(carried, closed.astype(carried.dtype))


def output_scale(config: ModelConfig) -> float:
    """Initial scale of what is added to the residual stream, 0.02 / sqrt(2 L)."""
    return INIT_SCALE / (2 * config.n_layers) ** 0.5


def normed(config: ModelConfig, name: str, site: str, x: jax.Array, hooks: Hooks, captured: Captured):
    """`norm` of the stream x [B, T, D]; divides by `hooks.norms[site]` if given."""
    y = norm(config, name)(x)
    if site in hooks.norms or site in hooks.capture:
        mean_square = jnp.mean(jnp.square(x.astype(jnp.float32)), axis=-1, keepdims=True)
        rms = jnp.sqrt(mean_square + RMS_EPSILON)
        if site in hooks.norms:
            y = (y * (rms / hooks.norms[site])).astype(y.dtype)
        if site in hooks.capture:
            captured[site] = rms
    return y


def block_input(config: ModelConfig, x_BxTxD, position_BxTxP, site: str, hooks: Hooks, captured: Captured):
    """The input of a sub-layer: the normed stream, concatenated with the normed position channels if any."""
    x = normed(config, "norm", site, x_BxTxD, hooks, captured)
    if position_BxTxP is None:
        return x
    position = norm(config, "position_norm")(position_BxTxP)
    return jnp.concatenate([x, position], axis=-1)


def mixed(pattern_BxHxTxS: jax.Array, values_BxSxK: jax.Array) -> jax.Array:
    """The values of all heads side by side, weighted by the heads' patterns: [B, T, K]."""
    pattern = pattern_BxHxTxS.astype(values_BxSxK.dtype)
    batch, heads, length, _ = pattern.shape
    values = values_BxSxK.reshape(*values_BxSxK.shape[:-1], heads, -1)
    return jnp.einsum("bhts,bshk->bthk", pattern, values).reshape(batch, length, -1)


class Attention(nn.Module):
    """Causal attention over all heads; q, k, v and the output are node sites."""

    config: ModelConfig

    @nn.compact
    def __call__(self, x, position, hooks, captured: Captured, cache, positions: Positions, at_BxA=None):
        """x [B, T, D] -> (what is added to the stream [B, T, D], the cache with T more tokens).

        With `at_BxA` only the queries of those tokens are computed: [B, A, D].
        """
        config = self.config
        x = block_input(config, x, position, "attn_norm", hooks, captured)
        x = point(config, "attn_in", x, hooks, captured)
        carried = hooks.carried_from("attn_in", x)

        def read(site: str, x, carried, hooks):
            y = linear(config, config.d_attention, site)(x)
            return point(config, site, with_closed_edges(self, site, y, carried), hooks, captured)

        k, v = (read(site, x, carried, hooks) for site in ("k", "v"))
        carried_v = hooks.carried_from("v", v)
        if at_BxA is not None:
            x, hooks, positions = take_tokens(x, at_BxA), hooks.at(at_BxA), positions.at(at_BxA)
            carried = None if carried is None else take_tokens(carried, at_BxA)
        q = read("q", x, carried, hooks)
        if cache is not None:
            k = jax.lax.dynamic_update_slice_in_dim(cache["k"], k, positions.start, axis=1)
            v = jax.lax.dynamic_update_slice_in_dim(cache["v"], v, positions.start, axis=1)
            cache = {"k": k, "v": v}
        sink = None
        if config.attention_sink:
            sink = self.param("sink", nn.initializers.zeros, (config.n_heads,))
        weighs_heads = self.has_variable("params", HEAD_CONSTANTS)
        in_full = at_BxA is None and cache is None and carried_v is None
        if in_full and not weighs_heads and sites.PATTERN not in hooks.capture:
            y = attend(q, k, v, sink, config.d_head, positions.visible)
        else:
            pattern = attention_pattern(q, k, sink, config.d_head, positions.visible)
            y = mixed(pattern, v)
            carried_v = None if carried_v is None else mixed(pattern, carried_v)
            if sites.PATTERN in hooks.capture:
                captured[sites.PATTERN] = pattern
        y = point(config, "heads", y, hooks, captured)
        y = linear(config, config.d_model, "out", output_scale(config))(y)
        y = with_closed_edges(self, "out", y, carried_v)
        if weighs_heads:
            constants_HxD: jax.Array = self.get_variable("params", HEAD_CONSTANTS)
            y = y + jnp.einsum("bhts,hd->btd", pattern, constants_HxD).astype(y.dtype)
        return point(config, "attn_out", y, hooks, captured), cache


class Mlp(nn.Module):
    """One hidden layer; its neurons are nodes after the activation function."""

    config: ModelConfig

    @nn.compact
    def __call__(self, x, position, hooks: Hooks, captured: Captured):
        """x [B, T, D] -> what is added to the stream [B, T, D]."""
        config = self.config
        x = block_input(config, x, position, "mlp_norm", hooks, captured)
        x = point(config, "mlp_in", x, hooks, captured)
        carried = hooks.carried_from("mlp_in", x)
        x = with_closed_edges(self, "up", linear(config, config.d_mlp, "up")(x), carried)
        x = ACTIVATION[config.activation](x)
        x = point(config, "mlp_neuron", x, hooks, captured)
        carried = hooks.carried_from("mlp_neuron", x)
        x = linear(config, config.d_model, "down", output_scale(config))(x)
        x = with_closed_edges(self, "down", x, carried)
        return point(config, "mlp_out", x, hooks, captured)
