"""Searches the prunings of one model for many tasks: all lanes of a round run side by side."""

import dataclasses
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from sparse_jax.circuits.edges import count_edges, count_nodes
from sparse_jax.pruning.config import PruneConfig
from sparse_jax.pruning.discretize import discretize_many
from sparse_jax.pruning.lanes import optimize_gates
from sparse_jax.pruning.propose import hyperparameters, search_space
from sparse_jax.pruning.prune import TaskData
from sparse_jax.pruning.step import Lane
from sparse_jax.pruning.subject import Subject
from sparse_jax.pruning.trials import Outcome, SearchConfig, Trial, Trials, next_round

# Trials are compared by sizes that may be this share too large: exact ones would take longer than pruning.
# The circuits that a study reports are exact.
GROWTH = 0.05


def search_tasks(
    subject: Subject,
    tasks: Sequence[TaskData],
    targets: Mapping[str, Sequence[float]],
    search: SearchConfig,
    prune: PruneConfig,
) -> dict[str, Trials]:
    """`search.rounds` rounds of `search.lanes` prunings for each task, all tasks of a round together.

    targets: by task, the losses that it is judged at, which the full model must reach. Every round is kept
    as soon as it is there; a search that was stopped goes on where it was, within a round too.
    """
    directory = subject.directory / "search"
    journals = {data.name: Trials(directory / data.name) for data in tasks}
    group = zlib.crc32(" ".join(journals).encode())
    for number in range(search.rounds):
        if any(len(one.trials) <= number * search.lanes for one in journals.values()):
            path = directory / f"round_{number}_{group:08x}.npz"
            _search_round(subject, tasks, journals, targets, search, prune, number, path)
            path.unlink()
    return journals


def _search_round(
    subject: Subject,
    tasks: Sequence[TaskData],
    journals: Mapping[str, Trials],
    targets: Mapping[str, Sequence[float]],
    search: SearchConfig,
    prune: PruneConfig,
    number: int,
    path: Path,
) -> None:
    """One round; a task whose trials of it are there already runs along, from the file, and adds nothing."""
    first, space = number * search.lanes, search_space(prune)
    proposals = []
    for data in tasks:
        reachable = tuple(target for target in search.targets if target in targets[data.name])
        own = dataclasses.replace(search, targets=reachable or (min(targets[data.name]),))
        proposals += next_round(space, journals[data.name].trials[:first], own)
    numbers = np.arange(first, first + search.lanes)
    lanes = Lane(
        task=np.repeat(np.arange(len(tasks)), search.lanes),
        seed=prune.seed + np.tile(numbers, len(tasks)),
        hyper=hyperparameters(prune, proposals),
    )
    model = subject.model
    names = tasks[0].name if len(tasks) == 1 else f"{len(tasks)} tasks"
    label = f"{subject.name}, {names}, round {number + 1} of {search.rounds}"
    train = [data.train for data in tasks]
    found = optimize_gates(model.config, prune, model.params, subject.means, train, lanes, label, path)
    for task, data in enumerate(tasks):
        if len(journals[data.name].trials) > first:
            continue
        chosen = slice(task * search.lanes, (task + 1) * search.lanes)
        logits = {name: tau[chosen] for name, tau in found.logits.items()}
        outcomes = _outcomes(subject, data, prune, logits, found.failed[chosen], targets[data.name])
        parts = zip(numbers.tolist(), proposals[chosen], outcomes, strict=True)
        journals[data.name].append_round([Trial(*part) for part in parts], logits)


def _outcomes(
    subject: Subject,
    data: TaskData,
    prune: PruneConfig,
    logits_R: Mapping[str, np.ndarray],
    failed_R: np.ndarray,
    targets: Sequence[float],
) -> list[tuple[Outcome, ...]]:
    """What every lane of a task reaches, at every target."""
    judge = subject.judge(data.validation, prune)
    outcomes = []
    for lane, failed in enumerate(failed_R):
        if failed:
            outcomes.append(tuple(Outcome(target, 0, 0, None) for target in targets))
            continue
        logits = {name: tau[lane] for name, tau in logits_R.items()}
        found = discretize_many(judge, logits, targets, growth=GROWTH)
        params = subject.model.params
        outcomes.append(
            tuple(
                Outcome(target, count_nodes(one.gates), count_edges(params, one.gates), one.loss)
                for target, one in zip(targets, found, strict=True)
            )
        )
    return outcomes
