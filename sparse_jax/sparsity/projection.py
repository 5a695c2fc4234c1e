"""The projection as an optax transformation: after every update only the largest weights are nonzero."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from sparse_jax.inputs import InputError
from sparse_jax.sparsity.config import SparsityConfig
from sparse_jax.sparsity.masks import weight_keys
from sparse_jax.sparsity.rules import sparse_leaves
from sparse_jax.sparsity.schedules import count_kept, surplus
from sparse_jax.topk.matrix import keep_largest
from sparse_jax.trees import map_named, named_leaves


class ProjectionState(NamedTuple):
    """count: updates done. masks: bool, shaped like the params; None where a leaf is dense.

    thresholds: int32, one for each matrix of the sparse leaves, the start of the next search.
    """

    count: jax.Array  # type: ignore[assignment]  # optax names it so, over tuple.count
    masks: object
    thresholds: jax.Array


def project(config: SparsityConfig, total_updates: int) -> optax.GradientTransformation:
    """Keeps the weights sparse; has to be the last transformation of a chain.

    If a weight is kept, its update passes unchanged. If it is dropped, the update becomes exactly -weight, so
    that applying it gives exactly 0. Gradients and moments stay dense, so a dropped weight can return at any
    later update. Annealing never recompiles. Ties: see `weight_keys` and `keep_largest`.

    `init` raises InputError for a config that does not fit the params; `update` raises it for params or
    updates that are not float32, since a rounded -weight would leave weights that are almost 0.
    Source: METHOD section 3.
    """

    def init(params):
        leaves = sparse_leaves(config, params)
        matrices = sum(leaf.stack_shape[0] for leaf in leaves.values())
        return ProjectionState(
            count=jnp.zeros((), jnp.int32),
            masks=map_named(lambda name, p: jnp.ones(p.shape, bool) if name in leaves else None, params),
            thresholds=jnp.zeros(matrices, jnp.int32),
        )

    def update(updates, state, params=None):
        if params is None:
            raise InputError("params: None given to the projection; valid: the params that the update is for")
        leaves = sparse_leaves(config, params)
        weights, changes = named_leaves(params), named_leaves(updates)
        for name in leaves:
            _require_float32(name, weights[name], changes[name])
        count = optax.safe_increment(state.count)
        surplus_now = surplus(config, count, total_updates)

        keys = [weight_keys(weights[name] + changes[name], leaf) for name, leaf in leaves.items()]
        budgets = [count_kept(leaf.target, leaf.size, surplus_now) for leaf in leaves.values()]
        selected, thresholds = keep_largest(keys, budgets, state.thresholds)
        kept = {name: mask.reshape(weights[name].shape) for name, mask in zip(leaves, selected)}

        def projected(name, change, weight):
            return jnp.where(kept[name], change, -weight) if name in kept else change

        masks = map_named(lambda name, _: kept.get(name), params)
        return map_named(projected, updates, params), ProjectionState(count, masks, thresholds)

    return optax.GradientTransformation(init, update)


def _require_float32(name: str, weight: jax.Array, change: jax.Array) -> None:
    for what, array in (("params", weight), ("updates", change)):
        if array.dtype != jnp.float32:
            raise InputError(f"{what}: {name} is {array.dtype}; valid: float32 for sparse weights")
