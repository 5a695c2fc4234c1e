"""Prunes one model for many tasks in rounds; all lanes of a round run side by side."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from sparse_jax.circuits.edges import count_edges, count_nodes
from sparse_jax.inputs import require_once
from sparse_jax.pruning.discretize import discretize_many
from sparse_jax.pruning.lanes import Optimized, optimize_gates, repeated
from sparse_jax.pruning.logits import allowed_nodes
from sparse_jax.pruning.proposals import Parameters, Range, hyperparameters, require_optuna, search_space
from sparse_jax.pruning.recipe import Recipe, SearchConfig
from sparse_jax.pruning.step import Lane
from sparse_jax.pruning.subject import Subject
from sparse_jax.pruning.trials import Outcome, Trial, Trials, next_round
from sparse_jax.tasks.task_data import TaskData
from sparse_jax.trees import fingerprint

# Sizes of trials may be too large by this share: exact ones would take longer than pruning. Those of
# reported circuits come from `LaneCurves`.
GROWTH = 0.05

# The parameters of a round's prunings, from the ranges, the trials so far, the search and the targets.
Proposer = Callable[
    [Mapping[str, Range], Sequence[Trial], SearchConfig, Sequence[float]], Sequence[Parameters]
]


@dataclasses.dataclass(frozen=True)
class TaskSearch:
    """The trials for one task, and the targets that they are judged at."""

    data: TaskData
    targets: tuple[float, ...]
    trials: Trials
    identity: str

    def proposed_for(self, recipe: Recipe) -> tuple[float, ...]:
        """The targets that proposals aim at: those of the search that the full model reaches."""
        wanted = recipe.search.targets or recipe.targets
        return tuple(target for target in wanted if target in self.targets) or (min(self.targets),)


def search_tasks(
    subject: Subject,
    tasks: Sequence[TaskData],
    targets: Mapping[str, Sequence[float]],
    recipe: Recipe,
    label: str = "prune",
    propose_round: Proposer = next_round,
) -> dict[str, Trials]:
    """Runs rounds of `search.lanes` prunings for each task, the lanes of all tasks side by side.

    There are `search.rounds` of them, or one without a search. targets: by task, the losses that its trials
    are judged at; the full model must reach them. propose_round: chooses the hyperparameters of a round;
    searches that differ in it need stores of their own. Every finished round is saved to the subject's store,
    under a hash of its inputs. A stopped search resumes where it was, even within a round, and a search with
    more rounds continues one with fewer. Raises InputError for two tasks of one name.
    """
    require_once("tasks", [data.name for data in tasks])
    if recipe.search.rounds > 1:
        require_optuna()  # otherwise only the second round would notice that it is missing
    searches = [_open_search(subject, data, tuple(targets[data.name]), recipe) for data in tasks]
    group = fingerprint([one.identity for one in searches])[:16]
    count = max(1, recipe.search.rounds)
    for number in range(count):
        if any(len(one.trials.trials) <= number * recipe.search.lanes for one in searches):
            path = subject.store.search(f"{group}-round-{number}.npz")
            said = label if count == 1 else f"{label}, round {number + 1} of {count}"
            _search_round(subject, searches, recipe, number, said, path, propose_round)
            if path is not None:
                path.unlink(missing_ok=True)
    return {one.data.name: one.trials for one in searches}


def _open_search(subject: Subject, data: TaskData, targets: tuple[float, ...], recipe: Recipe) -> TaskSearch:
    search = dataclasses.asdict(recipe.search)
    # the number of rounds and finalists does not change the trials: a longer search begins the same
    search = {**search, "rounds": search["rounds"] > 0, "finalists": 0}
    # trials depend on `targets` instead, and swaps and constants come after them
    prune = dataclasses.replace(recipe.prune, target_loss=1.0, swaps=False, constants=False)
    about = {**subject.about(data, prune), "search": repr(search), "targets": repr(targets)}
    identity = fingerprint({**about, "prune": repr(prune)})[:16]
    trials = Trials(subject.store.search(f"{data.name}-{identity}"), identity)
    return TaskSearch(data, targets, trials, identity)


def _search_round(
    subject: Subject,
    searches: Sequence[TaskSearch],
    recipe: Recipe,
    number: int,
    label: str,
    path: Path | None,
    propose_round: Proposer,
) -> None:
    """One round. Tasks whose trials are already stored are included (read from the file) but add nothing."""
    search, prune = recipe.search, recipe.prune
    first, space = number * search.lanes, search_space(prune) if search.rounds else {}
    proposals: list[Parameters] = []
    for one in searches:
        proposals += propose_round(space, one.trials.trials[:first], search, one.proposed_for(recipe))
    numbers = np.arange(first, first + search.lanes)
    model, train = subject.model, [one.data.train for one in searches]
    lanes = Lane(
        task=np.repeat(np.arange(len(searches)), search.lanes),
        seed=prune.seed + np.tile(numbers, len(searches)),
        hyper=hyperparameters(prune, proposals),
    )
    eligible, fixed = allowed_nodes(model.config, prune)
    if eligible is not None and fixed is not None:
        lanes = dataclasses.replace(lanes, eligible=repeated(eligible, lanes), fixed=repeated(fixed, lanes))
    found = optimize_gates(
        model.config, prune, model.params, subject.values, train, lanes, label, path, subject.text
    )
    for task, one in enumerate(searches):
        if len(one.trials.trials) > first:
            continue
        chosen = slice(task * search.lanes, (task + 1) * search.lanes)
        own = _lanes(found, chosen)
        outcomes = _outcomes(subject, one, recipe, own) if search.rounds else [()] * search.lanes
        trials = [
            Trial(int(n), parameters, outcome, int(opened), None if failed else float(loss))
            for n, parameters, outcome, failed, opened, loss in zip(
                numbers,
                proposals[chosen],
                outcomes,
                own.failed,
                np.nan_to_num(own.history["open"][:, -1]),
                own.history["loss"][:, -1],
                strict=True,
            )
        ]
        one.trials.append_round(trials, own.logits)


def _lanes(found: Optimized, chosen: slice) -> Optimized:
    """Some of the lanes."""
    logits = {name: np.asarray(tau)[chosen] for name, tau in found.logits.items()}
    history = {name: values[chosen] for name, values in found.history.items()}
    return Optimized(logits, history, found.failed[chosen])


def _outcomes(
    subject: Subject, search: TaskSearch, recipe: Recipe, found: Optimized
) -> list[tuple[Outcome, ...]]:
    """For every lane of a task, its outcome at every target."""
    judge = subject.judge(search.data.validation, recipe.prune)
    eligible, fixed = allowed_nodes(subject.model.config, recipe.prune)
    outcomes = []
    for lane, failed in enumerate(found.failed):
        if failed:
            outcomes.append(tuple(Outcome(target, 0, 0, None) for target in search.targets))
            continue
        logits = {name: tau[lane] for name, tau in found.logits.items()}
        smallest = discretize_many(judge, logits, search.targets, fixed, eligible, growth=GROWTH)
        params = subject.model.params
        outcomes.append(
            tuple(
                Outcome(target, count_nodes(one.gates), count_edges(params, one.gates), one.loss)
                for target, one in zip(search.targets, smallest, strict=True)
            )
        )
    return outcomes
