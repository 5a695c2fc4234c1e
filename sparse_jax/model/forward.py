"""The forward function, and functions that initialize, count and summarize parameters."""

import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from sparse_jax.inputs import InputError, require
from sparse_jax.model import sites
from sparse_jax.model.config import ModelConfig
from sparse_jax.model.hooks import NO_HOOKS, Hooks, check_hooks, check_steady
from sparse_jax.model.narrow import Narrow
from sparse_jax.model.positions import Branches, in_branches, in_order
from sparse_jax.model.transformer import Shardings, Transformer
from sparse_jax.trees import Array, named_leaves

Params = Mapping[str, Any]


def forward(
    config: ModelConfig,
    params: Params,
    tokens_BxT: Array,
    hooks: Hooks = NO_HOOKS,
    at_B: Array | None = None,
    branches: Branches | None = None,
    narrow: Narrow | None = None,
    stream: Shardings = (),
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """Runs the model: tokens [B, T] -> (float32 logits [B, T, V], captured values by site).

    With `at_B` (one position per sequence, or A of them, [B, A]) only those tokens are unembedded: logits are
    [B, V] ([B, A, V]). If hooks have no patches, additions or captures in the layers, the last layer's
    queries, outputs and MLP are then computed for those tokens alone. With `branches` each sequence is two
    texts with a common beginning. With `narrow` the layer nodes that it leaves out are closed, whatever their
    gates say; hooks must then give gates of all layer sites and the ablation values that it is made with, and
    patches, additions and captures there are refused. `stream` are the shardings of the residual stream, see
    `Transformer`. Captured values are [L, B, T, N] ([B, T, N] at `embed` and `final_resid`; at the latter,
    with `at_B`, only those positions; "pattern" is [L, B, H, T, T]). Pure; jit it with `config` closed over.

    Token ids are not checked, since a traced array has none yet (`check_ids` does that before): an id past
    the vocabulary is read as its last, a negative one counts from its end, and one before its start is read
    as its first.

    Reverse mode only: attention and AbsTopK have gradients of their own, and JAX refuses `jax.jvp` with a
    TypeError ("can't apply forward-mode ... to a custom_vjp function"). Transpose the reverse mode instead:
    `y, pull = jax.vjp(f, x)`, then `jax.linear_transpose(lambda g: pull(g)[0], y)(dx)[0]` is the derivative
    of `f` in the direction `dx`.

    Raises InputError for hooks that do not fit the model or more tokens than its context.
    """
    length = tokens_BxT.shape[1]
    if branches is None:
        _check_length(config, length)
    check_hooks(config, hooks, tokens_BxT.shape)
    if narrow is not None:
        _check_narrow(hooks)
    positions = in_order(length) if branches is None else in_branches(length, branches)
    at_BxA, single = at_B, False
    if at_B is not None and at_B.ndim == 1:
        at_BxA, single = at_B[:, None], True
    # Flax says what apply returns with `mutable`, too
    logits, captured, _ = Transformer(config, stream).apply(  # type: ignore[misc]
        {"params": params}, tokens_BxT, hooks, positions, at_BxA, narrow=narrow
    )
    if single:
        of_end = {site: x[:, 0] for site, x in captured.items() if site == sites.FINAL_SITE}
        logits, captured = logits[:, 0], {**captured, **of_end}
    return logits, captured


def forward_cached(
    config: ModelConfig,
    params: Params,
    tokens_BxT: Array,
    cache: Mapping[str, jax.Array],
    start: jax.Array | int,
    hooks: Hooks = NO_HOOKS,
) -> tuple[jax.Array, Mapping[str, jax.Array]]:
    """Runs T more tokens, at positions from `start`, after those in `cache` -> (logits [B, T, V], cache).

    hooks: the same at every position, see `check_steady`. Raises InputError for positions past the context;
    if `start` is traced, the caller has to check this.
    """
    check_hooks(config, hooks, tokens_BxT.shape)
    check_steady(hooks)
    if not isinstance(start, jax.core.Tracer):
        _check_length(config, int(start) + tokens_BxT.shape[1])
    positions = in_order(tokens_BxT.shape[1], start, config.context)
    # Flax says what apply returns with `mutable`, too
    logits, _, cache = Transformer(config).apply(  # type: ignore[misc]
        {"params": params}, tokens_BxT, hooks, positions, None, cache
    )
    return logits, cache


def empty_cache(config: ModelConfig, batch: int) -> dict[str, jax.Array]:
    """An empty cache of keys and values, [L, B, context, H*K]."""
    shape = (config.n_layers, batch, config.context, config.d_attention)
    return {name: jnp.zeros(shape, config.compute_dtype) for name in ("k", "v")}


@functools.partial(jax.jit, static_argnames="config")
def initialize(config: ModelConfig, key: jax.Array) -> Params:
    """Fresh float32 parameters: N(0, 0.02), output projections smaller (METHOD 1)."""
    tokens = jnp.zeros((1, 1), jnp.int32)
    return Transformer(config).init(key, tokens, NO_HOOKS, in_order(1))["params"]


@functools.cache
def param_shapes(config: ModelConfig) -> Params:
    """The parameter tree as shapes and dtypes, without allocating it."""
    return jax.eval_shape(lambda: initialize(config, jax.random.key(0)))


def num_params(params: Params) -> int:
    """The number of parameters in all leaves."""
    return sum(int(np.prod(leaf.shape)) for leaf in named_leaves(params).values())


def summary(params: Params) -> str:
    """One line per leaf: name, shape, entries, percentage of nonzero entries; totals last."""
    rows, nonzeros = [], 0
    for name, leaf in named_leaves(params).items():
        size, nonzero = int(np.prod(leaf.shape)), int(np.count_nonzero(leaf))
        nonzeros += nonzero
        shape = " x ".join(map(str, leaf.shape))
        rows.append(f"{name:<34}{shape:>20}{size:>12,}{100 * nonzero / size:>8.2f} %")
    total = num_params(params)
    rows.append(f"{'total':<34}{'':>20}{total:>12,}{100 * nonzeros / total:>8.2f} %")
    return "\n".join(rows)


def check_ids(config: ModelConfig, ids: Array, field: str) -> None:
    """Raises InputError naming `field` if one of the token ids, at least one, is not in the vocabulary."""
    low, high = int(ids.min()), int(ids.max())
    size = config.vocab_size
    require(low >= 0 and high < size, field, f"ids {low} to {high}", f"token ids 0 to {size - 1}")


def _check_length(config: ModelConfig, tokens: int) -> None:
    if tokens > config.context:
        raise InputError(f"tokens: {tokens} per sequence; valid: at most context {config.context}")


def _check_narrow(hooks: Hooks) -> None:
    """Raises InputError for hooks that a narrow layer would silently ignore."""
    asked = {"patches": hooks.patches, "additions": hooks.additions, "capture": hooks.capture}
    for kind, names in asked.items():
        for site in names:
            if sites.in_layers(site):
                valid = "the full model, or sites outside the layers"
                raise InputError(f"hooks.{kind}: {site!r} in a narrow model; valid: {valid}")
