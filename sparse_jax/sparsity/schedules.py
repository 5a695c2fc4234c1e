"""Annealing: the share of the weights to be pruned that remains after a number of updates."""

import jax
import jax.numpy as jnp

from sparse_jax.sparsity.config import SparsityConfig


def surplus(config: SparsityConfig, updates: jax.Array | int, total_updates: int) -> jax.Array:
    """Share of the weights to be pruned that is still kept after `updates` updates: from 1 down to 0.

    A leaf with target fraction f keeps the fraction f + (1 - f) * surplus. `updates` may be traced.
    """
    if config.schedule == "constant":
        return jnp.zeros(jnp.shape(updates))
    start, end = config.anneal_start * total_updates, config.anneal_end * total_updates
    left = 1 - jnp.clip((updates - start) / (end - start), 0, 1)
    return left**config.power if config.schedule == "power" else left


def fraction_kept(config: SparsityConfig, updates: jax.Array | int, total_updates: int) -> jax.Array:
    """The model's `final_fraction` after `updates` updates: annealed from 1 to its target."""
    return config.final_fraction + (1 - config.final_fraction) * surplus(config, updates, total_updates)


def count_kept(target: int, size: int, surplus_now: jax.Array) -> jax.Array:
    """Weights kept of a matrix of `size` that ends at `target`: int32, exactly `target` at surplus 0.

    Rounds the surplus weights down; float32 cannot push it beyond `size`.
    """
    extra = jnp.floor((size - target) * surplus_now).astype(jnp.int32)
    return target + jnp.clip(extra, 0, size - target)
