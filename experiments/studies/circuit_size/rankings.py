"""Baselines: circuits from rankings of nodes without training, to compare with learned ones."""

from collections.abc import Callable, Mapping, Sequence

import jax
import numpy as np

from sparse_jax.pruning.baselines import attribution, random_scores, weight_magnitudes
from sparse_jax.pruning.config import PruneConfig
from sparse_jax.pruning.discretize import Discretized, discretize_many
from sparse_jax.pruning.subject import Subject
from sparse_jax.tasks.task_data import TaskData

Scores = Mapping[str, np.ndarray]
# These circuits have thousands of nodes: sizes may be this share larger than the smallest that reaches the
# target.
GROWTH = 0.05
# Attribution is averaged over at most this many training pairs.
PAIRS = 128


def ranked_circuits(
    subject: Subject, data: TaskData, method: str, targets: Sequence[float], prune: PruneConfig, seed: int
) -> list[Discretized]:
    """For each target, the fewest best-ranked nodes that reach it, without elimination."""
    scores = RANKINGS[method](subject, data, prune, seed)
    return discretize_many(subject.judge(data.validation, prune), scores, targets, growth=GROWTH)


def _attribution(subject: Subject, data: TaskData, prune: PruneConfig, seed: int) -> Scores:
    model = subject.model
    pairs = jax.tree.map(lambda array: array[:PAIRS], data.train)
    return attribution(model.config, model.params, subject.values, pairs, prune)


def _random(subject: Subject, data: TaskData, prune: PruneConfig, seed: int) -> Scores:
    return random_scores(subject.model.config, prune, seed)


def _magnitude(subject: Subject, data: TaskData, prune: PruneConfig, seed: int) -> Scores:
    return weight_magnitudes(subject.model.config, subject.model.params, prune)


RANKINGS: dict[str, Callable[[Subject, TaskData, PruneConfig, int], Scores]] = {
    "attribution": _attribution,
    "random": _random,
    "magnitude": _magnitude,
}
