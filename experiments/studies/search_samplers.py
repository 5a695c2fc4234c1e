"""Searches that choose in different ways, on equal prunings (`search_samplers_report` shows them)."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from sparse_jax.circuits.edges import circuit_size
from sparse_jax.files import json_lines, write_whole
from sparse_jax.inputs import from_mapping
from sparse_jax.pruning.proposals import Range, propose, require_optuna
from sparse_jax.pruning.recipe import Recipe, SearchConfig
from sparse_jax.pruning.reduce import reduce_nodes
from sparse_jax.pruning.search import search_tasks
from sparse_jax.pruning.store import Store
from sparse_jax.pruning.subject import Subject
from sparse_jax.pruning.trials import Trial, Trials, next_round
from sparse_jax.runtime.writers import read_rows
from sparse_jax.tasks.task_data import TaskData
from sparse_jax.trees import fingerprint

FIRST = "first"  # the round that all searches share


@dataclasses.dataclass(frozen=True)
class TrialRow:
    """A pruning: its smallest circuit at the target by the ranking of gates, on validation pairs.

    round: from 1. loss: None if the pruning broke down.
    """

    task: str
    sampler: str
    round: int
    number: int
    reached: bool
    edges: int
    nodes: int
    loss: float | None
    parameters: dict[str, float]


@dataclasses.dataclass(frozen=True)
class BestRow:
    """The best pruning of a search, before elimination (`ranked` edges) and after.

    identity: a hash of its logits. validation, test: losses of the circuit on these splits.
    """

    task: str
    sampler: str
    number: int
    identity: str
    ranked: int
    edges: int
    nodes: int
    validation: float
    test: float


def random(
    space: Mapping[str, Range], trials: Sequence[Trial], search: SearchConfig, targets: Sequence[float]
) -> list[dict[str, float]]:
    """More draws around the center, as if the first round were longer."""
    return propose(space, [], len(trials) + search.lanes, search.seed)[len(trials) :]


def pareto(
    space: Mapping[str, Range], trials: Sequence[Trial], search: SearchConfig, targets: Sequence[float]
) -> list[dict[str, float]]:
    """Draws near the front of edges and loss (`ParetoSampler`). There has to be one target."""
    if not trials:
        return next_round(space, trials, search, targets)
    optuna = require_optuna()
    from experiments.studies.pareto_sampler import ParetoSampler  # it needs Optuna as well

    (target,) = targets
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    ranges = {
        name: optuna.distributions.FloatDistribution(one.low, one.high, log=True)
        for name, one in space.items()
    }
    study = optuna.create_study(directions=["minimize"] * 2, sampler=ParetoSampler(target, search.seed))
    for trial in trials:
        outcome = trial.at(target)
        end = {"values": [outcome.edges, outcome.loss]}
        if outcome.loss is None:
            end = {"state": optuna.trial.TrialState.FAIL}
        told = optuna.trial.create_trial(params=trial.parameters, distributions=ranges, **end)
        study.add_trial(told)
    return [study.ask(ranges).params for _ in range(search.lanes)]


# By name. "tpe" is the library's search, which the others are compared with.
SAMPLERS = {"tpe": next_round, "pareto": pareto, "random": random}


def measured_searches(
    subject: Subject, tasks: Sequence[TaskData], recipe: Recipe, samplers: Sequence[str], workdir: Path
) -> Iterator[tuple[list[TrialRow], list[BestRow]]]:
    """All rows so far, after each round of a task and sampler, and then after each elimination.

    A round is done for all tasks and samplers before the next begins. The first is pruned once, and every
    search goes on from there in a store of its own.
    """
    found: dict[tuple[str, str], Trials] = {}
    (target,) = recipe.targets
    for rounds in range(1, recipe.search.rounds + 1):
        longer = dataclasses.replace(recipe, search=dataclasses.replace(recipe.search, rounds=rounds))
        for data in tasks:
            for sampler in samplers if rounds > 1 else [FIRST]:
                own = dataclasses.replace(subject, store=_store(workdir, sampler))
                label, propose_round = f"{data.name}, {sampler}", SAMPLERS.get(sampler, next_round)
                trials = search_tasks(own, [data], {data.name: (target,)}, longer, label, propose_round)
                found[data.name, sampler] = trials[data.name]
                yield _rows(found, recipe), []
    rows, best = _rows(found, recipe), []
    known = _Eliminated(subject, recipe, workdir / "eliminated.jsonl")
    for data in tasks:
        for sampler in [one for one in (FIRST, *samplers) if (data.name, one) in found]:
            row = known.row(data, sampler, found[data.name, sampler])
            best += [] if row is None else [row]
            yield rows, best


def _store(workdir: Path, sampler: str) -> Store:
    """The store of a sampler's searches, each of which has the first round there is."""
    store = Store(workdir / sampler)
    for folder in sorted((workdir / FIRST / "search").glob("*/")) if sampler != FIRST else ():
        begun, first = Trials(store.search(folder.name)), Trials(folder)
        if first.trials and not begun.trials:
            logits = [first.logits(trial) for trial in first.trials]
            begun.append_round(
                first.trials, {name: np.stack([one[name] for one in logits]) for name in logits[0]}
            )
    return store


def _rows(found: Mapping[tuple[str, str], Trials], recipe: Recipe) -> list[TrialRow]:
    (target,), lanes = recipe.targets, recipe.search.lanes
    rows = []
    for (task, sampler), trials in found.items():
        for trial in trials.trials[0 if sampler == FIRST else lanes :]:
            one, number = trial.at(target), trial.number
            reached = one.loss is not None and one.loss <= target
            sizes = (one.edges, one.nodes, one.loss, trial.parameters)
            rows.append(TrialRow(task, sampler, 1 + number // lanes, number, reached, *sizes))
    return rows


class _Eliminated:
    """What elimination leaves of the best prunings; kept in a file, since searches share some of them."""

    def __init__(self, subject: Subject, recipe: Recipe, path: Path):
        self._subject, self._recipe, self._path = subject, recipe, path
        rows = [from_mapping(BestRow, row, "row") for row in read_rows(path)]
        self._known = {row.identity: row for row in rows}

    def row(self, data: TaskData, sampler: str, trials: Trials) -> BestRow | None:
        """The row of a search; None if no pruning of it reaches the target."""
        (target,), prune, subject = self._recipe.targets, self._recipe.prune, self._subject
        (best,) = trials.best(target)
        outcome = best.at(target)
        if outcome.loss is None or outcome.loss > target:
            return None
        logits = trials.logits(best)
        identity = fingerprint({**subject.about(data, prune), "prune": repr(prune), **logits})[:16]
        if identity not in self._known:
            judge = subject.judge(data.validation, prune)
            (reduced,) = reduce_nodes(judge, [logits], (target,), prune)
            edges, nodes = circuit_size(subject.model.params, reduced.gates)
            test = subject.loss(data.test, prune, reduced.gates)
            ranked = reduced.discretized["edges"]
            sizes = (ranked, edges, nodes, reduced.loss, test)
            self._known[identity] = BestRow(data.name, sampler, best.number, identity, *sizes)
            write_whole(self._path, json_lines(map(dataclasses.asdict, self._known.values())))
        return dataclasses.replace(self._known[identity], sampler=sampler, number=best.number)
