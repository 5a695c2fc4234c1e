"""Means, shares and geometric means with 95 % intervals."""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats

from sparse_jax.inputs import require
from sparse_jax.trees import Array

LEVEL = 0.95
SAMPLES = 10_000


class Interval(NamedTuple):
    """A value and the ends of its 95 % interval; without ends, of what has no interval."""

    value: float
    low: float | None = None
    high: float | None = None

    def shown(self, form: str) -> str:
        """As text, each number in that format.

        >>> Interval(12.84, 6.4, 21.27).shown(".1f"), Interval(0.03).shown(".2f")
        ('12.8 [6.4, 21.3]', '0.03')
        """
        return " ".join(filter(None, [f"{self.value:{form}}", self.ends(form)]))

    def ends(self, form: str) -> str:
        """The ends as text, empty if there are none."""
        return "" if self.low is None else f"[{self.low:{form}}, {self.high:{form}}]"


def mean_interval(values_P: Array, samples: int = SAMPLES, seed: int = 0) -> Interval:
    """The mean over pairs with its percentile bootstrap interval (`statistic_interval`)."""
    return statistic_interval(np.asarray(values_P)[:, None], lambda means: means[..., 0], samples, seed)


def statistic_interval(
    values_PxN: Array, statistic: Callable[[np.ndarray], np.ndarray], samples: int = SAMPLES, seed: int = 0
) -> Interval:
    """A function of the N means over pairs, and its percentile bootstrap interval.

    The bootstrap draws the pairs again, `samples` times, with replacement. statistic: from means [..., N] to
    [...]. Raises InputError without a pair.
    """
    values = np.asarray(values_PxN, np.float64)
    require(len(values) > 0, "values", [], "at least one")
    rng = np.random.default_rng(seed)
    # a sum over how often each pair was drawn: no array of samples x pairs x values
    counts = rng.multinomial(len(values), np.full(len(values), 1 / len(values)), samples)
    drawn = statistic(counts @ values / len(values))
    low, high = np.quantile(drawn, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(float(statistic(values.mean(axis=0))), float(low), float(high))


def share_interval(hits: int, total: int) -> Interval:
    """A share with its exact binomial (Clopper-Pearson) interval.

    Raises InputError unless 0 <= hits <= total.
    """
    require(total > 0 and 0 <= hits <= total, "hits", f"{hits} of {total}", "0 to a total above 0")
    tail = (1 - LEVEL) / 2
    low = 0.0 if hits == 0 else float(stats.beta.ppf(tail, hits, total - hits + 1))
    high = 1.0 if hits == total else float(stats.beta.ppf(1 - tail, hits + 1, total - hits))
    return Interval(hits / total, low, high)


def answers_interval(hits_Px2: Array, counted_Px2: Array | None = None) -> Interval:
    """The share of hits among the answers of P pairs, two each, with an exact binomial interval.

    counted: which answers count; all by default. The two answers of a pair may depend on each other, so the
    interval is that of as many trials as there are pairs with an answer that counts: as if both answers of a
    pair were always the same, the most that they can depend. Between whole numbers of hits the low end is
    that of the next lower and the high end that of the next higher number.

    Raises InputError if no answer counts.

    >>> answers_interval([[True, True], [True, False]]).value
    0.75
    """
    hits = np.asarray(hits_Px2, bool)
    counted = np.ones_like(hits) if counted_Px2 is None else np.asarray(counted_Px2, bool)
    require(bool(counted.any()), "answers", [], "at least one that counts")
    share, trials = float(hits[counted].mean()), int(counted.any(axis=1).sum())
    expected = round(share * trials, 9)  # a whole number stays one
    low = share_interval(math.floor(expected), trials).low
    return Interval(share, low, share_interval(math.ceil(expected), trials).high)


def geometric_mean(values: Sequence[float], samples: int = SAMPLES, seed: int = 0) -> Interval:
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
