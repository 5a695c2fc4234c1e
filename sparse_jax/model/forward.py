"""The one forward function, and how parameters are made, counted and shown."""

import functools
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np

from sparse_jax.inputs import InputError
from sparse_jax.model.config import ModelConfig
from sparse_jax.model.hooks import NO_HOOKS, Hooks, check_hooks
from sparse_jax.model.transformer import Transformer
from sparse_jax.trees import named_leaves

Params = Mapping[str, object]


def forward(
    config: ModelConfig,
    params: Params,
    tokens_BxT: jax.Array,
    hooks: Hooks = NO_HOOKS,
    at_B: jax.Array | None = None,
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """Runs the model: tokens [B, T] -> (float32 logits [B, T, V], captured values by site).

    With `at_B` (a position per sequence) only those positions are unembedded: logits [B, V].
    Captured values are [L, B, T, N] ([B, T, N] at `final_resid`, or [B, N] with `at_B`; "pattern" is
    [L, B, H, T, T]). Pure; jit it with `config` closed over.

    Raises InputError for hooks that do not fit the model or more tokens than its context.
    """
    _check_length(config, tokens_BxT.shape[1])
    check_hooks(config, hooks)
    logits, captured, _ = Transformer(config).apply({"params": params}, tokens_BxT, hooks, at_B)
    return logits, captured


def forward_cached(config: ModelConfig, params: Params, tokens_BxT: jax.Array, cache, start: jax.Array):
    """Runs T more tokens at positions start.. after those in `cache` -> (logits [B, T, V], cache)."""
    logits, _, cache = Transformer(config).apply({"params": params}, tokens_BxT, NO_HOOKS, None, cache, start)
    return logits, cache


def empty_cache(config: ModelConfig, batch: int) -> dict[str, jax.Array]:
    """Keys and values [L, B, context, H*K] of no token yet."""
    shape = (config.n_layers, batch, config.context, config.d_attention)
    return {name: jnp.zeros(shape, config.compute_dtype) for name in ("k", "v")}


def initialize(config: ModelConfig, key: jax.Array) -> Params:
    """Fresh float32 parameters: N(0, 0.02), output projections smaller (METHOD 1)."""
    tokens = jnp.zeros((1, 1), jnp.int32)
    return Transformer(config).init(key, tokens, NO_HOOKS)["params"]


@functools.cache
def param_shapes(config: ModelConfig) -> Params:
    """The parameter tree as shapes and dtypes, without making it."""
    return jax.eval_shape(lambda: initialize(config, jax.random.key(0)))


def num_params(params: Params) -> int:
    """Number of entries over all leaves."""
    return sum(int(np.prod(leaf.shape)) for leaf in named_leaves(params).values())


def summary(params: Params) -> str:
    """A line per leaf: name, shape, entries, nonzero entries in percent; totals last."""
    rows, nonzeros = [], 0
    for name, leaf in named_leaves(params).items():
        size, nonzero = int(np.prod(leaf.shape)), int(np.count_nonzero(leaf))
        nonzeros += nonzero
        shape = " x ".join(map(str, leaf.shape))
        rows.append(f"{name:<34}{shape:>20}{size:>12,}{100 * nonzero / size:>8.2f} %")
    total = num_params(params)
    rows.append(f"{'total':<34}{'':>20}{total:>12,}{100 * nonzeros / total:>8.2f} %")
    return "\n".join(rows)


def _check_length(config: ModelConfig, tokens: int) -> None:
    if tokens > config.context:
        raise InputError(f"tokens: {tokens} a sequence; valid: at most context {config.context}")
