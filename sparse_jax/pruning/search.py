"""Runs lanes of gate optimization: many prunings in one compiled program."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from sparse_jax.model.config import ModelConfig
from sparse_jax.model.forward import Params
from sparse_jax.progress import Progress
from sparse_jax.pruning.config import Hyperparameters, PruneConfig
from sparse_jax.pruning.gates import Gates
from sparse_jax.pruning.step import lane_step, new_lane
from sparse_jax.tasks.encode import EncodedPairs

CHUNK = 50


def optimize_gates(
    config: ModelConfig,
    prune: PruneConfig,
    params: Params,
    fills: Gates,
    pairs: EncodedPairs,
    hyper: Hyperparameters,
    seeds_R: np.ndarray,
    label: str = "prune",
) -> tuple[Gates, dict[str, np.ndarray]]:
    """Optimizes R lanes at once on the same pairs -> (gate logits [R, L, N], metrics [R, steps]).

    `hyper` holds arrays [R]; a lane depends on its seed and hyper-parameters only. Steps run in chunks
    under `lax.scan`, so that the host sees progress without a transfer a step.
    """
    run = _compiled(config, prune)
    keys = jax.vmap(jax.random.key)(jnp.asarray(seeds_R))
    state = jax.vmap(functools.partial(new_lane, config, prune))(hyper, keys)
    history, done = [], 0
    progress = Progress(label, prune.steps, "steps")
    while done < prune.steps:
        steps = min(CHUNK, prune.steps - done)
        state, metrics = run(steps, params, fills, pairs, hyper, state)
        history.append(jax.device_get(metrics))
        done += steps
        last = history[-1]
        progress.update(done, loss=float(last["loss"][:, -1].min()), nodes=int(last["nodes"][:, -1].min()))
    progress.close()
    return state.logits, {
        name: np.concatenate([part[name] for part in history], axis=1) for name in ("loss", "nodes")
    }


def lanes(prune: PruneConfig, count: int) -> tuple[Hyperparameters, np.ndarray]:
    """`count` lanes that differ in their seed only: hyper-parameters [R] and seeds [R]."""
    hyper = jax.tree.map(lambda value: jnp.full(count, value, jnp.float32), prune.hyperparameters())
    return hyper, np.arange(prune.seed, prune.seed + count)


@functools.cache
def _compiled(config: ModelConfig, prune: PruneConfig):
    """One program for every task of the same shapes: the pairs are arguments, not constants."""

    def run(steps, params, fills, pairs, hyper, state):
        step = jax.vmap(functools.partial(lane_step, config, prune), in_axes=(None, None, None, 0, 0))

        def body(state, _):
            return step(params, fills, pairs, hyper, state)

        state, metrics = jax.lax.scan(body, state, length=steps)
        return state, jax.tree.map(jnp.transpose, metrics)

    return jax.jit(run, static_argnums=0, donate_argnums=5)
