"""A sampler for Optuna after CARBS (Fetterman et al. 2023, arXiv:2306.08055): local, around a Pareto front.

What CARBS does: proposals are drawn near the Pareto front of cost and performance, Gaussian processes predict
both, and the draw with the largest expected improvement over the front is taken, weighed by how near it is
and how likely it succeeds. Its code is on GitHub (imbue-ai/carbs), for PyTorch and Pyro; it is not on PyPI.

Where this differs: here the performance to reach, a loss, is known. So what is to be improved on is the point
of the front at that loss, where CARBS chooses any point at random, and success is to reach it.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, FloatDistribution
from optuna.trial import FrozenTrial, TrialState
from scipy import special, stats

from experiments.studies.gaussian_process import GaussianProcess, condition, fit

# The standard deviation of draws around the front, as a share of a range: that of a search's first round.
RADIUS = 0.125
CANDIDATES_PER_DIMENSION = 100
# Trials whose loss is above the target by more than this factor say little about circuits at the target, so
# none is drawn around them.
LOOSEST = 2.0


class ParetoSampler(optuna.samplers.BaseSampler):
    """Proposes parameters near the Pareto front of a study that minimizes a size and a loss.

    target: the loss to reach; lower losses count as equal to it. Proposals depend on `seed`, the number of
    the trial and the study's trials. Running trials count with the values that are expected of them, failed
    ones as worse than all others. Parameters that are no floats, and all before the first finished trial, are
    drawn at random.
    """

    def __init__(self, target: float, seed: int):
        self._target = target
        self._seed = seed
        self._random = optuna.samplers.RandomSampler(seed)

    def infer_relative_search_space(
        self, study: optuna.Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        """The floats that all trials have in common."""
        shared = optuna.search_space.intersection_search_space(study.get_trials(deepcopy=False))
        return {name: one for name, one in shared.items() if isinstance(one, FloatDistribution)}

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """The best of many draws around the front."""
        others = [one for one in study.get_trials(deepcopy=False) if one.number != trial.number]
        known = [one for one in others if search_space.keys() <= one.params.keys()]
        by_state = {state: [one for one in known if one.state == state] for state in TrialState}
        done, failed = by_state[TrialState.COMPLETE], by_state[TrialState.FAIL]
        if not done or not search_space:
            return {}
        sizes, misses = np.array([one.values for one in done]).T
        misses = np.log(np.maximum(misses, self._target) / self._target)
        points = _units(done, search_space)
        front = pareto_front(sizes, misses)
        goal = front[np.argmin(misses[front])]
        x_NxD = np.concatenate([points, _units(failed, search_space)])
        pending_PxD = _units(by_state[TrialState.RUNNING], search_space)
        rng = np.random.default_rng([self._seed, trial.number])
        drawn, closeness = _around(points[front], rng)
        chances = []
        for values_N, chance in ((sizes, expected_improvement), (misses, probability)):
            scores = normal_scores([*values_N, *(math.inf for _ in failed)])
            process = believed(fit(x_NxD, scores), pending_PxD)
            chances.append(chance(*process.predict(drawn), scores[goal]))
        chosen = drawn[np.argmax(closeness * chances[0] * chances[1])]
        return {name: _value(unit + 0.5, one) for unit, (name, one) in zip(chosen, search_space.items())}

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """A draw from the whole range."""
        return self._random.sample_independent(study, trial, param_name, param_distribution)


def pareto_front(sizes_N: np.ndarray, misses_N: np.ndarray) -> np.ndarray:
    """Indices of the points that no other beats in size or miss without losing in the other.

    misses_N: log(loss / target), 0 where the target is reached. Points that miss by more than LOOSEST are
    left out unless there are no others; then the closest to the target is the front.
    """
    near = misses_N <= max(math.log(LOOSEST), misses_N.min())
    no_worse = (sizes_N <= sizes_N[:, None]) & (misses_N <= misses_N[:, None])
    better = no_worse & ((sizes_N < sizes_N[:, None]) | (misses_N < misses_N[:, None]))
    return np.flatnonzero(near & ~better.any(axis=1))


def normal_scores(values: Sequence[float]) -> np.ndarray:
    """The normal quantiles of the ranks: sizes of circuits differ by orders of magnitude."""
    return special.ndtri((stats.rankdata(values) - 0.5) / len(values))


def expected_improvement(mean: np.ndarray, deviation: np.ndarray, best: float) -> np.ndarray:
    """By how much a normal variable is expected to fall below `best` (above it counts as 0)."""
    z = (best - mean) / deviation
    return deviation * (z * stats.norm.cdf(z) + stats.norm.pdf(z))


def probability(mean: np.ndarray, deviation: np.ndarray, most: float) -> np.ndarray:
    """That a normal variable is at most `most`."""
    return stats.norm.cdf((most - mean) / deviation)


def believed(process: GaussianProcess, x_PxD: np.ndarray) -> GaussianProcess:
    """The process as if observations at `x_PxD` had been what it expects: it is less uncertain there."""
    mean, _ = process.predict(x_PxD)
    x_NxD, y_N = np.concatenate([process.x_NxD, x_PxD]), np.concatenate([process.y_N, mean])
    return condition(process.kernel, x_NxD, y_N)


def _around(centers_FxD: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Draws around the centers, and how close each is to the nearest: 1 at a center, falling with RADIUS."""
    count, width = CANDIDATES_PER_DIMENSION * centers_FxD.shape[1], centers_FxD.shape[1]
    chosen = centers_FxD[rng.integers(len(centers_FxD), size=count)]
    drawn = np.clip(chosen + RADIUS * rng.normal(size=(count, width)), -0.5, 0.5)
    distance = np.linalg.norm(drawn[:, None] - centers_FxD[None], axis=-1).min(axis=1)
    return drawn, np.exp(-0.5 * (distance / RADIUS) ** 2)


def _units(trials: Sequence[FrozenTrial], space: dict[str, BaseDistribution]) -> np.ndarray:
    """Parameters [trials, D] from -0.5 to 0.5, the ends of their ranges."""
    rows = [[_unit(trial.params[name], one) for name, one in space.items()] for trial in trials]
    return np.array(rows, np.float64).reshape(len(trials), len(space)) - 0.5


def _unit(value: float, one: Any) -> float:
    if one.log:
        return math.log(value / one.low) / math.log(one.high / one.low)
    return (value - one.low) / (one.high - one.low)


def _value(unit: float, one: Any) -> float:
    value = one.low * (one.high / one.low) ** unit if one.log else one.low + unit * (one.high - one.low)
    return float(min(max(value, one.low), one.high))
