"""The study of circuit sizes: two models, many tasks and target losses, every row kept as it comes."""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from experiments.studies.circuit_size.plan import Plan
from experiments.studies.circuit_size.rows import Case
from experiments.studies.circuit_size.sizes import BEYOND, SizeRow, SizeRows
from experiments.studies.publish import METRICS, validation_loss
from sparse_jax.files import write_whole
from sparse_jax.inputs import InputError
from sparse_jax.models.model import Model
from sparse_jax.progress import Progress
from sparse_jax.pruning.prune import TaskData, task_loss
from sparse_jax.pruning.search import search_tasks
from sparse_jax.pruning.subject import Subject
from sparse_jax.sparsity.statistics import total_nonzero


def run_study(
    subjects: Sequence[Subject], tasks: Mapping[str, Sequence[TaskData]], plan: Plan, rows: SizeRows
) -> None:
    """Adds to `rows` what is missing of every subject, task, method and target of the plan.

    tasks: by the subjects' names, the same tasks in the same order. Whole models are judged before anything
    is pruned: what they miss is said, and costs no more time. The subjects take turns, so that a study that
    is stopped has rows of both; run again, it goes on. Raises InputError if that was with other pairs under
    the name of a task.
    """
    for one in subjects:
        for data in tasks[one.name]:
            _require_same_pairs(one, data)
    losses = {one.name: _judge(one, tasks[one.name], plan, rows) for one in subjects}
    count, together = len(tasks[subjects[0].name]), plan.study.tasks_together
    progress = Progress(
        "study", count * len(subjects), "tasks of a model", _finished(subjects, tasks, plan, rows)
    )
    for start in range(0, count, together):
        for subject in subjects:
            group = tasks[subject.name][start : start + together]
            if any(_missing(subject, data, plan, rows) for data in group):
                _study_group(subject, group, losses[subject.name], plan, rows)
                progress.update(_finished(subjects, tasks, plan, rows))
    progress.close()


def _pairs_file(subject: Subject, data: TaskData) -> Path:
    return subject.directory / "pairs" / f"{data.name}.txt"


def _require_same_pairs(subject: Subject, data: TaskData) -> None:
    path = _pairs_file(subject, data)
    if path.exists() and path.read_text() != data.fingerprint:
        raise InputError(
            f"tasks: {data.name} had other pairs when {path} was written; "
            "valid: a new workdir, or another name"
        )


def _missing(subject: Subject, data: TaskData, plan: Plan, rows: SizeRows) -> list[tuple[str, float]]:
    """The methods and targets that there is no row of yet."""
    return [
        (method, target)
        for method, target in plan.wanted()
        if (subject.name, data.name, target, method) not in rows
    ]


def _finished(
    subjects: Sequence[Subject], tasks: Mapping[str, Sequence[TaskData]], plan: Plan, rows: SizeRows
) -> int:
    return sum(not _missing(one, data, plan, rows) for one in subjects for data in tasks[one.name])


def _judge(subject: Subject, tasks: Sequence[TaskData], plan: Plan, rows: SizeRows) -> dict[str, float]:
    """The full model's validation loss by task; the targets below it get their rows."""
    losses = {}
    for data in tasks:
        loss = task_loss(subject.model, data.validation, {}, {}, plan.prune.judged_by)
        losses[data.name] = loss
        beyond = [(method, target) for method, target in plan.wanted() if target < loss]
        for method, target in beyond:
            row = SizeRow(subject.name, data.name, target, method, BEYOND, loss)
            if row.key not in rows:
                rows.append(row)
        if beyond:
            missed = ", ".join(f"{target:g}" for target in sorted({target for _, target in beyond}))
            print(
                f"{subject.name}, {data.name}: the full model is at {loss:.3f} nats; left out: {missed}",
                file=sys.stderr,
            )
    return losses


def _study_group(
    subject: Subject, group: Sequence[TaskData], losses: Mapping[str, float], plan: Plan, rows: SizeRows
) -> None:
    targets = {
        data.name: tuple(target for target in plan.study.targets if losses[data.name] <= target)
        for data in group
    }
    # the same group again after a stop: an unfinished round of its search is found by who is in it
    group = [data for data in group if targets[data.name]]
    for data in group:
        write_whole(_pairs_file(subject, data), data.fingerprint)
    journals = search_tasks(subject, group, targets, plan.search, plan.prune)
    for data in group:
        case = Case(subject, data, journals[data.name], losses[data.name], targets[data.name], plan)
        for row in case.rows(_missing(subject, data, plan, rows)):
            rows.append(row)


def describe_model(model: Model, weights: str, place: Path) -> dict[str, object]:
    """Where a model lies, the hash and the nonzero counts of its weights, its validation loss if known."""
    metrics = (place / METRICS).exists()
    return {
        "place": str(place),
        "weights": weights,
        "nonzero": {name: int(count) for name, count in total_nonzero(model.params).items()},
        "validation_loss": validation_loss(place) if metrics else None,
    }
