"""Geometric means over tasks with bootstrap intervals: how much the choice of tasks decides."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from sparse_jax.inputs import require

LEVEL = 0.95


class Interval(NamedTuple):
    """A value and the ends of its 95 % bootstrap interval."""

    value: float
    low: float
    high: float


def geometric_mean(values: Sequence[float], samples: int = 10_000, seed: int = 0) -> Interval:
    """The geometric mean of positive values, one a task, and its percentile interval.

    The bootstrap draws the tasks again, `samples` times, with replacement: the interval is about the tasks
    that might have been chosen, not about the noise of one task. Of ratios it is paired, as it should be.
    Raises InputError if there is no value or one is not positive.
    """
    require(len(values) > 0 and min(values) > 0, "values", list(values), "positive numbers, at least one")
    logs = np.log(np.asarray(values, np.float64))
    rng = np.random.default_rng(seed)
    drawn = logs[rng.integers(0, logs.size, (samples, logs.size))].mean(axis=1)
    low, high = np.quantile(drawn, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(*(float(np.exp(x)) for x in (logs.mean(), low, high)))
