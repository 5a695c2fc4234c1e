"""Drops gates that will stay closed: which nodes a lane still computes.

The only approximation is that such a gate is never reopened, and circuits are judged on the full model.
"""

import jax.numpy as jnp
import numpy as np

from sparse_jax.circuits.gates import Gates
from sparse_jax.circuits.narrowing import full_widths, narrowed, widest_layer
from sparse_jax.model import sites
from sparse_jax.model.config import ModelConfig
from sparse_jax.pruning.config import PruneConfig
from sparse_jax.pruning.step import Lane
from sparse_jax.trees import Arrays

# Programs are compiled for 1 / part of the width; 1 is the ordinary program (half the width is no faster).
PARTS = (8, 4, 1)
# How often gates are dropped, and lanes may move to a narrower program.
STAGES = 16
# A gate is dropped if opening it would take more than this share of the distance its logit can still rise.
REACH = 0.25


def can_compact(prune: PruneConfig, lanes: Lane) -> bool:
    """Whether gates may be dropped: only if all of them are trained and belong to nodes.

    Gates of edges change the matrices at every step.
    """
    return prune.compact and lanes.eligible is None and not lanes.fixed


def stops(prune: PruneConfig) -> list[int]:
    """The steps after which gates are dropped; the last is the end of training."""
    return sorted({max(1, round(stage * prune.steps / STAGES)) for stage in range(1, STAGES + 1)})


def still_alive(logits: Gates, rate_R: np.ndarray, done: int, steps: int) -> Arrays:
    """True [R, ...] for logits that may open again after `done` of the steps.

    AdamW moves a logit by at most about the learning rate per step, and the rate falls linearly to 0, so a
    logit can still move by rate * (steps - done)^2 / (2 steps).
    """
    lowest_R = -REACH * rate_R * (steps - done) ** 2 / (2 * steps)
    # keep logits that are not finite, so that they are noticed
    return {name: ~(tau < lowest_R.reshape(-1, *[1] * (tau.ndim - 1))) for name, tau in logits.items()}


def smallest_parts(config: ModelConfig, alive: Gates) -> np.ndarray:
    """For each lane the largest number in PARTS by which all widths can be divided; `alive` [R, L, N]."""
    counts, full = widest_layer(config, alive), full_widths(config)
    fits = [
        np.all([counts[name] <= width for name, width in narrowed(full, part)._asdict().items()], axis=0)
        for part in PARTS
    ]
    return np.array(PARTS)[np.argmax(fits, axis=0)]


def alive_nodes(config: ModelConfig, lane: Lane) -> Gates:
    """True [L, N] for the nodes of the layers that are trained or fixed open."""
    assert lane.eligible is not None  # a gate is dropped by making it ineligible
    shapes = sites.node_shapes(config, sites.LAYER_SITES)
    return {
        site: (lane.eligible[site] > 0) | (lane.fixed.get(site, jnp.ones(shape)) > 0)
        for site, shape in shapes.items()
    }
