"""The circuit-size study: two models, many tasks and target losses; every row is saved at once."""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from experiments.studies.circuit_size.plan import Plan
from experiments.studies.circuit_size.rows import learned_row, ranked_rows
from experiments.studies.circuit_size.sizes import BEYOND, SizeRow, SizeRows
from experiments.studies.pair import known_loss
from sparse_jax.models.model import Model
from sparse_jax.progress import Progress
from sparse_jax.pruning.prune import find_circuits, reachable
from sparse_jax.pruning.subject import Subject
from sparse_jax.sparsity.statistics import total_nonzero
from sparse_jax.tasks.task_data import TaskData


def run_study(
    subjects: Mapping[str, Subject],
    tasks: Mapping[str, Sequence[TaskData]],
    plan: Plan,
    rows: SizeRows,
) -> None:
    """Adds the missing rows of all subjects, tasks, methods and targets of the plan.

    subjects, tasks: by model name, with the same tasks in the same order. Full models are judged before
    anything is pruned; targets that they miss are reported and skipped. The models alternate, so that a
    stopped study has rows of both; run it again to continue.
    """
    losses = {name: _judge(name, one, tasks[name], plan, rows) for name, one in subjects.items()}
    count, together = len(next(iter(tasks.values()))), plan.study.tasks_together
    progress = Progress("study", count * len(subjects), "tasks of a model", _finished(tasks, plan, rows))
    for start in range(0, count, together):
        for name, subject in subjects.items():
            group = tasks[name][start : start + together]
            if any(_missing(name, data, plan, rows) for data in group):
                _study_group(name, subject, group, losses[name], plan, rows)
                progress.update(_finished(tasks, plan, rows))
    progress.close()


def _missing(model: str, data: TaskData, plan: Plan, rows: SizeRows) -> list[tuple[str, float]]:
    """The methods and targets without a row."""
    return [
        (method, target) for method, target in plan.wanted() if (model, data.name, target, method) not in rows
    ]


def _finished(tasks: Mapping[str, Sequence[TaskData]], plan: Plan, rows: SizeRows) -> int:
    return sum(not _missing(name, data, plan, rows) for name, group in tasks.items() for data in group)


class _Ability(NamedTuple):
    """The full model's validation loss for a task, and the targets that it reaches."""

    loss: float
    targets: tuple[float, ...]


def _judge(
    model: str, subject: Subject, tasks: Sequence[TaskData], plan: Plan, rows: SizeRows
) -> dict[str, _Ability]:
    """What the full model can do, by task; adds rows for the targets that it misses."""
    found = {}
    for data in tasks:
        loss, targets = reachable(subject, data, plan.recipe)
        found[data.name] = _Ability(loss, targets)
        beyond = [(method, target) for method, target in plan.wanted() if target not in targets]
        for method, target in beyond:
            row = SizeRow(model, data.name, target, method, BEYOND, loss)
            if row.key not in rows:
                rows.append(row)
        if beyond:
            missed = ", ".join(f"{target:g}" for target in sorted({target for _, target in beyond}))
            said = f"{model}, {data.name}: the full model is at {loss:.3f} nats; left out: {missed}"
            print(said, file=sys.stderr)
    return found


def _study_group(
    model: str,
    subject: Subject,
    group: Sequence[TaskData],
    abilities: Mapping[str, _Ability],
    plan: Plan,
    rows: SizeRows,
) -> None:
    # after a stop, the group has to be the same: an unfinished round of its search is found by its members
    group = [data for data in group if abilities[data.name].targets]
    if not group:
        return
    targets = {data.name: abilities[data.name].targets for data in group}
    label = f"{model}, {group[0].name if len(group) == 1 else f'{len(group)} tasks'}"
    for found in find_circuits(subject, group, plan.recipe, targets, label):
        row = learned_row(model, found, abilities[found.data.name].loss, plan.recipe)
        if row.key not in rows:
            rows.append(row)
    for data in group:
        missing = _missing(model, data, plan, rows)
        for ranking in plan.study.rankings:
            wanted = [target for method, target in missing if method == ranking]
            if wanted:
                about = abilities[data.name].loss, plan.prune, plan.study.seed
                for row in ranked_rows(model, subject, data, ranking, wanted, *about):
                    rows.append(row)


def describe_model(model: Model, place: Path) -> dict[str, object]:
    """A model's location, the hash and nonzero counts of its weights, and its validation loss if known."""
    return {
        "place": str(place),
        "weights": model.fingerprint,
        "nonzero": {name: int(count) for name, count in total_nonzero(model.params).items()},
        "validation_loss": known_loss(place),
    }
