"""Rows and table of inverse pruning: what has to be removed beside what suffices."""

import dataclasses
import itertools
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from experiments.studies.pair import keep_models
from sparse_jax.circuits.applied import check_task
from sparse_jax.circuits.graph import Circuit, load_circuit
from sparse_jax.faithfulness.intervals import geometric_mean
from sparse_jax.faithfulness.removal import find_removals
from sparse_jax.files import json_lines, write_whole
from sparse_jax.inputs import from_mapping
from sparse_jax.models.model import Model
from sparse_jax.pruning.config import PruneConfig
from sparse_jax.pruning.subject import prepare_subject
from sparse_jax.runtime.writers import read_rows
from sparse_jax.tasks.task import Task
from sparse_jax.tasks.task_data import task_data
from sparse_jax.trees import fingerprint


@dataclasses.dataclass(frozen=True)
class RemovalRow:
    """The removal from a model ("sparse", "dense") for a task at a target; nodes count a tied q and k once.

    identity: of what it was found with; the row is made again if that changes. removed: names of nodes.
    units, trained: their number, and how many the gates' ranking left before elimination. kept: how many
    nodes the circuit of the task has; shared: how many of the removed ones are among them (both None without
    a circuit). knowledge, loss: on the test split.
    """

    model: str
    task: str
    target: float
    identity: str
    reached: bool
    units: int
    trained: int
    knowledge: float
    loss: float
    kept: int | None
    shared: int | None
    removed: Sequence[str]


def measured_removals(
    models: Mapping[str, Model],
    tasks: Sequence[Task],
    prune: PruneConfig,
    targets: Sequence[float],
    kept: Path,
    workdir: Path,
) -> Iterator[list[RemovalRow]]:
    """All rows so far, after each task and model. kept: a folder with SIDE/mean/TASK.json.

    Raises InputError if `workdir` has results of other models, and, before any work, for a circuit in `kept`
    of another model or task.
    """
    circuits = {
        (side, task.name): _circuit(kept / side / "mean" / f"{task.name}.json", models[side], task)
        for side, task in itertools.product(models, tasks)
    }
    keep_models(models, workdir)
    path = workdir / "rows.jsonl"
    rows = [from_mapping(RemovalRow, row, "row") for row in read_rows(path)]
    subjects = {side: prepare_subject(model, prune, workdir / side) for side, model in models.items()}
    for task, side in itertools.product(tasks, sorted(models, reverse=True)):
        subject = subjects[side]
        tokenizer = subject.model.require_tokenizer()
        data = task_data(task, tokenizer, subject.model.config.context, prune.counts)
        about = {**subject.about(data, prune), "settings": repr((prune, tuple(targets)))}
        identity = fingerprint(about)[:16]
        if any((row.model, row.task, row.identity) == (side, task.name, identity) for row in rows):
            continue
        circuit = circuits[side, task.name]
        names = None if circuit is None else units_of(circuit, prune.tied_qk)
        rows = [row for row in rows if (row.model, row.task) != (side, task.name)]
        for found in find_removals(subject, data, prune, targets, label=f"{side} {task.name}"):
            removed = [node.name for node in found.nodes if not (prune.tied_qk and node.site == "k")]
            rows.append(
                RemovalRow(
                    side,
                    task.name,
                    found.target,
                    identity,
                    found.reached,
                    found.units,
                    found.trained,
                    found.knowledge,
                    found.loss,
                    None if names is None else len(names),
                    None if names is None else len(names & set(removed)),
                    removed,
                )
            )
        write_whole(path, json_lines(map(dataclasses.asdict, rows)))
        yield rows
    yield rows


def _circuit(file: Path, model: Model, task: Task) -> Circuit | None:
    """The circuit in `file`, if there is one; one of another model or task is refused."""
    if not file.exists():
        return None
    circuit = load_circuit(file)
    check_task(model, circuit, task)
    return circuit


def units_of(circuit: Circuit, tied_qk: bool) -> set[str]:
    """The names of its nodes, without keys that share a query's gate."""
    return {node.name for node in circuit.nodes if not (tied_qk and node.site == "k")}


def write_removals(rows: Sequence[RemovalRow], directory: Path) -> str:
    """Writes rows.jsonl and table.md to `directory`; returns the table."""
    write_whole(directory / "rows.jsonl", json_lines(map(dataclasses.asdict, rows)))
    table = format_removals(rows)
    write_whole(directory / "table.md", table)
    return table


def format_removals(rows: Sequence[RemovalRow]) -> str:
    """Markdown: nodes that break a task beside nodes that suffice for it, then geometric means by target."""
    text = [
        "# Nodes needed to break a task, and to do it\n",
        "Removed: the fewest nodes found whose mean ablation leaves at most this much of the 0.693 nats of",
        "knowledge (the mean over pairs of how far the loss is below chance). Kept: nodes of the circuit at",
        "0.15 nats under mean ablation. Channel i of q and of k counts once. Loss: without what is removed,",
        "on the test split.\n",
        "| task | model | left at most | removed | before elimination | in the circuit | kept | loss |",
        "|---" * 8 + "|",
    ]
    for row in rows:
        removed = str(row.units) if row.reached else f"missed ({row.units})"
        kept, shared = ("-" if one is None else one for one in (row.kept, row.shared))
        cells = (row.task, row.model, f"{row.target:g}", removed, row.trained, shared, kept)
        text.append("| " + " | ".join(map(str, cells)) + f" | {row.loss:.3f} |")
    text += ["", "| model | left at most | tasks | removed | kept |", "|---" * 5 + "|"]
    for side, target in dict.fromkeys((row.model, row.target) for row in rows):
        own = [r for r in rows if (r.model, r.target) == (side, target) and r.reached and r.kept and r.units]
        if own:
            counts = [[row.units for row in own], [row.kept or 0 for row in own]]
            removed, kept = (f"{geometric_mean(one).value:.1f}" for one in counts)
            text.append(f"| {side} | {target:g} | {len(own)} | {removed} | {kept} |")
    return "\n".join(text) + "\n"
