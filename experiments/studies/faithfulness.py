"""Are circuits what their model uses? Mean-only against strict pruning, in a sparse and a dense model."""

import dataclasses
import itertools
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from experiments.studies.pair import keep_models
from sparse_jax.circuits.graph import Circuit
from sparse_jax.faithfulness.measure import measure_circuit
from sparse_jax.faithfulness.scorecard import VERSION
from sparse_jax.files import json_lines, write_whole
from sparse_jax.inputs import from_mapping
from sparse_jax.models.model import Model
from sparse_jax.pruning.config import PruneConfig
from sparse_jax.pruning.prune import find_circuits, reachable
from sparse_jax.pruning.recipe import Recipe
from sparse_jax.pruning.subject import Subject, prepare_subject
from sparse_jax.runtime.writers import read_rows
from sparse_jax.tasks.controls import ControlTask
from sparse_jax.tasks.task import Task
from sparse_jax.tasks.task_data import task_data


@dataclasses.dataclass(frozen=True)
class Row:
    """A circuit of a model ("sparse", "dense") for a task, pruned by a recipe ("mean", "strict").

    identity: of the circuit, in its provenance. pairs: of the test split, that its scorecard took. reached:
    whether the target was reached on the validation split. losses: as in `Circuit.losses`. figures: the
    scorecard's; none for the control of a task. version: of the scorecard; rows without one are of the first.
    again: whether the scorecard has the figures of pruning again. The row is made again if identity, pairs or
    version change, or if it lacks figures of pruning again that are wanted.
    """

    model: str
    task: str
    recipe: str
    identity: str
    pairs: int
    reached: bool
    nodes: int
    edges: int
    losses: Mapping[str, Any]
    figures: Sequence[Mapping[str, Any]]
    verdict: Sequence[str]
    control: bool = False
    version: int = 1
    again: bool = False

    def value(self, name: str, ablation: str | None) -> float | None:
        """A figure of the scorecard (without an ablation, under any); None if it was not measured."""
        for figure in self.figures:
            if figure["name"] == name and ablation in (None, figure["ablation"]):
                return figure["value"]
        return None


def measured_rows(
    models: Mapping[str, Model],
    tasks: Sequence[Task],
    recipes: Mapping[str, PruneConfig],
    workdir: Path,
    pairs: int,
    circuits: Path,
    again: bool = False,
) -> Iterator[list[Row]]:
    """All rows so far, after each new circuit has been found and measured; tasks in turn, all of their cells.

    Circuits are kept in `workdir`, rows in rows.jsonl there; what was there is not made again. Each circuit
    is also written to `circuits`, as SIDE/RECIPE/TASK.json, for whoever wants to look at it. A task that a
    model misses at the target has no row for it. Controls of tasks are pruned by the strict recipes alone,
    and get no scorecard. again: as of `measure_circuit`. Raises InputError if `workdir` has results of other
    models.
    """
    keep_models(models, workdir)
    path = workdir / "rows.jsonl"
    rows = [from_mapping(Row, row, "row") for row in read_rows(path)]
    sides = sorted(models, reverse=True)  # the sparse one first
    subjects = {
        (side, name): prepare_subject(models[side], prune, workdir / side / name)
        for side in sides
        for name, prune in recipes.items()
    }
    for task, side, name in itertools.product(tasks, sides, recipes):
        is_control = isinstance(task, ControlTask)
        if is_control and len(recipes[name].kinds) == 1:
            continue
        circuit = _circuit(subjects[side, name], task, recipes[name], f"{side} {task.name} {name}")
        if circuit is None:
            continue
        circuit.save(circuits / side / name / f"{task.name}.json")
        about = side, task.name, name, circuit.provenance["identity"], pairs
        if any(_about(row) == about and _has_all(row, again) for row in rows):
            continue
        rows = [row for row in rows if (row.model, row.task, row.recipe) != about[:3]]
        rows.append(_row(models[side], task, circuit, about, is_control, again))
        write_whole(path, json_lines(map(dataclasses.asdict, rows)))
        yield rows
    yield rows


def _circuit(subject: Subject, task: Task, prune: PruneConfig, label: str) -> Circuit | None:
    """The circuit of one pruning; None if the model misses the target or, which is said, it broke down."""
    model, recipe = subject.model, Recipe(prune)
    data = task_data(task, model.require_tokenizer(), model.config.context, prune.counts)
    targets = reachable(subject, data, recipe)[1]
    if not targets:
        return None
    (found,) = find_circuits(subject, [data], recipe, {data.name: targets}, label)
    if found.circuit is None:
        print(f"{label}: the pruning broke down; left out", file=sys.stderr)
    return found.circuit


def _about(row: Row) -> tuple[str, str, str, str, int]:
    return row.model, row.task, row.recipe, row.identity, row.pairs


def _has_all(row: Row, again: bool) -> bool:
    return row.version == VERSION and (row.again or row.control or not again)


def _row(
    model: Model,
    task: Task,
    circuit: Circuit,
    about: tuple[str, str, str, str, int],
    is_control: bool,
    again: bool,
) -> Row:
    card = None
    if circuit.nodes and not is_control:
        card = measure_circuit(model, circuit, task, about[-1], again=again)
    said = [] if is_control else ["The target is reached without any node."]
    return Row(
        *about,
        bool(circuit.provenance["reached"]),
        circuit.counts["nodes"],
        circuit.counts["edges"],
        circuit.losses,
        card.to_json()["figures"] if card else [],
        card.verdict if card else said,
        is_control,
        VERSION,
        again and not is_control,
    )
