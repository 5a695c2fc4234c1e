"""Metrics of a model on a task: values per pair, and their mean with a standard error.

Every metric maps logits [P, 2, V] and candidates [P, 2, 2] (right, wrong) to [P]. A pair is one sample,
because its members share their context.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from sparse_jax.trees import Array

Metric = Callable[[Array, Array], jax.Array]


def binary_loss(logits_Px2xV: Array, candidates_Px2x2: Array) -> jax.Array:
    """Cross-entropy over the two candidates, mean over both members: [P] in nats (METHOD 5)."""
    two = jnp.take_along_axis(logits_Px2xV, candidates_Px2x2, axis=-1)
    return -jax.nn.log_softmax(two, axis=-1)[..., 0].mean(axis=-1)


def knowledge(logits_Px2xV: Array, candidates_Px2x2: Array) -> jax.Array:
    """How far the binary loss lies below chance, max(ln 2 - loss, 0): [P] in nats.

    It is 0 if both members get the same answer, however sure: by convexity the loss is at least ln 2 then.
    """
    return jnp.maximum(math.log(2) - binary_loss(logits_Px2xV, candidates_Px2x2), 0.0)


def full_vocabulary_loss(logits_Px2xV: Array, candidates_Px2x2: Array) -> jax.Array:
    """Cross-entropy of the right token over the full vocabulary, mean over both members: [P] in nats."""
    right = candidates_Px2x2[..., :1]
    log_probabilities = jax.nn.log_softmax(logits_Px2xV, axis=-1)
    return -jnp.take_along_axis(log_probabilities, right, axis=-1)[..., 0].mean(axis=-1)


def logit_difference(logits_Px2xV: Array, candidates_Px2x2: Array) -> jax.Array:
    """Right minus wrong logit, mean over both members: [P]."""
    return _margins(logits_Px2xV, candidates_Px2x2).mean(axis=-1)


def accuracy(logits_Px2xV: Array, candidates_Px2x2: Array) -> jax.Array:
    """Share of members whose right logit is greater than the wrong one (a tie counts as wrong): [P]."""
    return (_margins(logits_Px2xV, candidates_Px2x2) > 0).mean(axis=-1)


def _margins(logits_Px2xV: Array, candidates_Px2x2: Array) -> jax.Array:
    two = jnp.take_along_axis(logits_Px2xV, candidates_Px2x2, axis=-1)
    return two[..., 0] - two[..., 1]


LOSSES: dict[str, Metric] = {
    "binary": binary_loss,
    "full_vocabulary": full_vocabulary_loss,
    "knowledge": knowledge,
}
METRICS: dict[str, Metric] = {
    "loss": binary_loss,
    "accuracy": accuracy,
    "logit_difference": logit_difference,
    "full_vocabulary_loss": full_vocabulary_loss,
}


class Estimate(NamedTuple):
    """A mean over pairs and its standard error (NaN for a single pair)."""

    mean: float
    standard_error: float


def summarize(values_P: Array) -> Estimate:
    """The mean over pairs, and the sample standard deviation divided by the square root of their number."""
    values = np.asarray(values_P, np.float64)
    error = values.std(ddof=1) / math.sqrt(len(values)) if len(values) > 1 else math.nan
    return Estimate(float(values.mean()), float(error))
