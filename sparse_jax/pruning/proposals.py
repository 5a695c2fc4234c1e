"""Hyperparameter search: chooses the next round of prunings from earlier results (METHOD 6)."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from sparse_jax.inputs import InputError, require
from sparse_jax.pruning.config import Hyperparameters, PruneConfig

Parameters = Mapping[str, float]

# The range of METHOD 6's eight parameters: a factor around the center in both directions, and the highest
# sensible value (gate logits are clamped to 1, the warm-up takes at most half of the steps).
FACTORS = {
    "k_coef": (30.0, math.inf),
    "learning_rate": (10.0, math.inf),
    "warmup": (5.0, 0.5),
    "one_minus_b2": (5.0, 0.5),
    "weight_decay": (10.0, math.inf),
    "init_mean": (8.0, 0.9),
    "init_scale": (10.0, math.inf),
    "temperature": (4.0, math.inf),
}
# The first round is drawn from a narrower range around the center: otherwise a budget of a few rounds would
# be spent on the corners.
FIRST_SPREAD = 0.25
# Far above the logarithm of any number of edges.
BEHIND_ALL_REACHED = 1e3
# The cost of a pruning that broke down: it has no loss to compare.
FAILED = 1e6


class Range(NamedTuple):
    """The search range of a parameter, on a logarithmic scale."""

    center: float
    low: float
    high: float


class Told(NamedTuple):
    """A finished pruning: its parameters and its cost (see `cost`)."""

    parameters: Parameters
    cost: float


def search_space(prune: PruneConfig) -> dict[str, Range]:
    """The ranges, centered on the values of `prune`; a parameter with center 0 is not searched."""
    centers = {**vars(prune), "one_minus_b2": 1 - prune.b2}
    space = {}
    for name, (factor, highest) in FACTORS.items():
        center = centers[name]
        if center <= 0:
            continue
        require(center <= highest, f"pruning.{name}", center, f"at most {highest} as the center of a search")
        space[name] = Range(center, center / factor, min(center * factor, highest))
    return space


def hyperparameters(prune: PruneConfig, proposals: Sequence[Parameters]) -> Hyperparameters:
    """The proposed parameters as arrays [R]; what a proposal leaves out is taken from `prune`."""
    lanes = []
    for proposal in proposals:
        values = {**vars(prune.hyperparameters()), **proposal}
        if "one_minus_b2" in values:
            values["b2"] = 1 - values.pop("one_minus_b2")
        lanes.append(values)
    names = vars(prune.hyperparameters())
    return Hyperparameters(**{name: np.array([lane[name] for lane in lanes], np.float32) for name in names})


def cost(edges: float, loss: float, target: float) -> float:
    """What a search minimizes: log(1 + edges) if the target is reached, else more, by the size of the miss.

    A loss of NaN is the worst of all.
    """
    if loss <= target:
        return math.log1p(edges)
    return BEHIND_ALL_REACHED + (loss - target if math.isfinite(loss) else FAILED)


def propose(
    space: Mapping[str, Range], told: Sequence[Told], count: int, seed: int
) -> list[dict[str, float]]:
    """The parameters of the next `count` prunings, which will run side by side.

    The result depends only on the arguments, so replaying a journal of trials leads to the same proposals.
    Without earlier trials: the center, then draws around it. Later: Optuna's tree-structured Parzen
    estimator, which counts its pending proposals as bad ("constant liar"), so that they differ. Raises
    InputError if `count` is not positive or Optuna is missing.
    """
    require(count >= 1, "search.lanes", count, "at least 1")
    seed = int(np.random.SeedSequence([seed, len(told)]).generate_state(1)[0])
    if not told:
        return _around_center(space, count, np.random.default_rng(seed))
    optuna = require_optuna()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    ranges = {
        name: optuna.distributions.FloatDistribution(one.low, one.high, log=True)
        for name, one in space.items()
    }
    sampler = optuna.samplers.TPESampler(seed=seed, multivariate=True, constant_liar=True, n_startup_trials=1)
    study = optuna.create_study(sampler=sampler)
    study.add_trials(
        [
            optuna.trial.create_trial(params=dict(one.parameters), distributions=ranges, value=one.cost)
            for one in told
        ]
    )
    return [study.ask(ranges).params for _ in range(count)]


def require_optuna() -> Any:
    """The optuna module. Raises InputError if it is not installed."""
    try:
        import optuna
    except ImportError:
        raise InputError("search: needs optuna; valid: pip install optuna (in the extra study)") from None
    return optuna


def _around_center(
    space: Mapping[str, Range], count: int, rng: np.random.Generator
) -> list[dict[str, float]]:
    proposals = [{name: one.center for name, one in space.items()}]
    for _ in range(count - 1):
        proposals.append(
            {
                name: float(np.clip(one.center * _spread(one) ** rng.normal(), one.low, one.high))
                for name, one in space.items()
            }
        )
    return proposals


def _spread(one: Range) -> float:
    return (one.high / one.low) ** (FIRST_SPREAD / 2)
