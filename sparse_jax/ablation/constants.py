"""Nodes that carry a constant of their own, whatever the ablation: biases that a circuit has instead."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from sparse_jax.ablation.draws import Ablated
from sparse_jax.ablation.objective import run_gated
from sparse_jax.circuits.gates import Gates
from sparse_jax.model.config import ModelConfig
from sparse_jax.model.forward import Params
from sparse_jax.tasks.encode import EncodedPairs
from sparse_jax.trees import Array, Arrays

# Pairs that are run together.
PAIRS = 16


def hold(ablated: Ablated, constants: Gates) -> Ablated:
    """`ablated`, with `constants` for the nodes that have one.

    constants: by site, [L, N] ([N] outside the layers), NaN for all other nodes; sites may be missing.
    """
    values = {
        site: _held(value, constants[site], constants[site]) if site in constants else value
        for site, value in ablated.values.items()
    }
    share = {
        site: _held(part, constants[site], jnp.zeros(())) if site in constants else part
        for site, part in ablated.share.items()
    }
    return Ablated(values, share)


def _held(value: Array, constant: Array, instead: Array) -> jax.Array:
    """`instead` where there is a constant, else `value`, [L, N] or [L, B, T, N]."""
    if jnp.ndim(value) > jnp.ndim(constant):
        constant = jnp.asarray(constant)[..., None, None, :]
        instead = jnp.asarray(instead)[..., None, None, :] if jnp.ndim(instead) else instead
    return jnp.where(jnp.isnan(constant), value, instead)


def averages(
    config: ModelConfig,
    params: Params,
    gates: Gates,
    values: Gates,
    pairs: EncodedPairs,
    frozen_norms: bool = False,
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """What every node of the layers carries in the gated model on average, [L, N] by site.

    Over all tokens of the prompts up to their ends, and over the last tokens alone: nodes that the answer is
    read from need the latter, keys and values the former. values: of closed nodes, by site.
    """
    names = tuple(site for site, gate in gates.items() if np.ndim(gate) == 2)
    run, parts = _compiled(config, names, frozen_norms), []
    for start in range(0, len(pairs.tokens), PAIRS):
        batch = EncodedPairs(*(array[start : start + PAIRS] for array in pairs))
        parts.append(jax.device_get(run(params, gates, values, batch)))
    (every, ends), (tokens, prompts) = jax.tree.map(lambda *each: np.sum(each, axis=0), *parts)
    return {site: x / tokens for site, x in every.items()}, {site: x / prompts for site, x in ends.items()}


@functools.cache
def _compiled(config: ModelConfig, names: tuple[str, ...], frozen_norms: bool):
    def run(params, gates, values, pairs):
        captured = run_gated(config, params, gates, values, pairs, frozen_norms, capture=names)[1]
        place, last_Bx1 = jnp.arange(pairs.tokens.shape[-1]), pairs.last.reshape(-1, 1)
        weights = [
            (chosen).astype(jnp.float32)[..., None] for chosen in (place <= last_Bx1, place == last_Bx1)
        ]
        sums = [{site: (w * x).sum(axis=(-3, -2)) for site, x in captured.items()} for w in weights]
        return tuple(sums), tuple(w.sum() for w in weights)

    return jax.jit(run)


def constants_of(nodes: Arrays, values: Arrays) -> dict[str, np.ndarray]:
    """`values` where `nodes` is true, and NaN elsewhere: the form that `hold` takes."""
    return {site: np.where(np.asarray(nodes[site]) > 0, value, np.nan) for site, value in values.items()}
