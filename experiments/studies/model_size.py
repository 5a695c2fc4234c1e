"""Effects of a model's size and density on its loss and its circuits (the paper's figure 3)."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from experiments.studies.figure import new_figure, save_figure
from sparse_jax.circuits.graph import Circuit
from sparse_jax.faithfulness.intervals import Interval, geometric_mean
from sparse_jax.files import json_lines, write_whole
from sparse_jax.model import sites
from sparse_jax.models.model import Model
from sparse_jax.phrases import counted
from sparse_jax.sparsity.statistics import total_nonzero

MARKERS = {"": "o", "activation_fraction": "^", "anneal_end": "v", "dense": "s"}


@dataclasses.dataclass(frozen=True)
class ModelRow:
    """A trained model: its size, its validation loss in nats a token, and its circuits by task.

    weights: the number of entries of the layers' matrices. nonzero: the number of nonzero parameters of the
    layers.
    changed: how it differs from the others besides width and fraction ("" or a key of MARKERS). edges: by
    task, if the circuit reaches the target; a circuit without edges counts as one edge.
    """

    name: str
    d_model: int
    fraction: float
    changed: str
    weights: int
    nonzero: int
    validation: float
    edges: Mapping[str, int]


def model_row(
    name: str, changed: str, model: Model, validation: float, circuits: Mapping[str, Circuit]
) -> ModelRow:
    """The row of a model and its circuits."""
    reached = {task: one for task, one in circuits.items() if one.provenance["reached"]}
    return ModelRow(
        name,
        model.config.d_model,
        model.run["sparsity"]["fraction"],
        changed,
        sum(int(np.prod(shape)) for shape in sites.edge_shapes(model.config).values()),
        int(total_nonzero(model.params)["layers"]),
        validation,
        {task: max(1, one.counts["edges"]) for task, one in reached.items()},
    )


def common_tasks(rows: Sequence[ModelRow]) -> list[str]:
    """The tasks for which every model has a circuit, in order."""
    return [task for task in rows[0].edges if all(task in row.edges for row in rows)] if rows else []


def mean_edges(row: ModelRow, tasks: Sequence[str]) -> Interval:
    """Geometric mean over the tasks, with its bootstrap interval."""
    return geometric_mean([row.edges[task] for task in tasks])


def write_rows(rows: Sequence[ModelRow], target: float, directory: Path) -> str:
    """Writes rows.jsonl, table.md and model_size.png to `directory`; returns the table."""
    write_whole(directory / "rows.jsonl", json_lines(map(dataclasses.asdict, rows)))
    table = format_rows(rows, target)
    write_whole(directory / "table.md", table)
    if common_tasks(rows):
        draw_rows(rows, target, directory / "model_size.png")
    return table


def format_rows(rows: Sequence[ModelRow], target: float) -> str:
    """Markdown: a line per model, with the geometric mean of edges over the tasks that all models can do."""
    tasks = common_tasks(rows)
    over = counted(len(tasks), "task")
    text = [
        "# Size and density of the model, its loss and its circuits\n",
        f"Circuits at {target:g} nats, gates on nodes; edges: geometric mean over {over}",
        f"that every model has a circuit for ({', '.join(tasks) or 'none'}), with a bootstrap interval.\n",
        "| model | width | weights | nonzero | share | validation loss | edges | tasks in all |",
        "|---" * 8 + "|",
    ]
    for row in rows:
        edges = "-"
        if tasks:
            edges = mean_edges(row, tasks).shown(".0f")
        share = f"{100 * row.nonzero / row.weights:.1f} %"
        cells = (row.name, row.d_model, f"{row.weights:,}", f"{row.nonzero:,}", share)
        text.append(
            "| " + " | ".join(map(str, cells)) + f" | {row.validation:.3f} | {edges} | {len(row.edges)} |"
        )
    return "\n".join(text) + "\n"


def draw_rows(rows: Sequence[ModelRow], target: float, path: Path) -> None:
    """Validation loss against circuit size: a line for each width, a marker for each other change."""
    tasks, figure = common_tasks(rows), new_figure()
    axes = figure.add_subplot()
    for width in sorted({row.d_model for row in rows if not row.changed}):
        own = sorted((r for r in rows if r.d_model == width and not r.changed), key=lambda r: r.nonzero)
        points = [(mean_edges(row, tasks).value, row.validation) for row in own]
        axes.plot(*zip(*points), marker=MARKERS[""], label=f"width {width}")
    for row in (row for row in rows if row.changed):
        point = mean_edges(row, tasks).value, row.validation
        axes.plot(*point, MARKERS[row.changed], color="gray")
    for row in rows:
        point = mean_edges(row, tasks).value, row.validation
        said = row.name if row.changed else f"{row.nonzero / 1000:.0f}k nonzero"
        axes.annotate(said, point, textcoords="offset points", xytext=(6, 4), fontsize=7)
    axes.set(xscale="log", ylabel="validation loss (nats a token)")
    over = counted(len(tasks), "task")
    axes.set_xlabel(f"edges of a circuit at {target:g} nats (geometric mean over {over})")
    axes.grid(alpha=0.25)
    axes.legend(frameon=False)
    save_figure(figure, path)
