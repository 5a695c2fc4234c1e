"""Rows, table and figure of what circuits of different tasks share."""

import dataclasses
import functools
import itertools
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from experiments.studies.figure import new_figure, save_figure
from sparse_jax.circuits.applied import check_circuit
from sparse_jax.circuits.graph import Circuit, load_circuit
from sparse_jax.circuits.sharing import (
    Items,
    chance,
    edge_items,
    jaccard,
    node_items,
    residual_channels,
    sizes_of_model,
    uses,
    uses_by_chance,
)
from sparse_jax.files import json_lines, write_whole
from sparse_jax.inputs import require
from sparse_jax.models.model import Model
from sparse_jax.phrases import counted

ITEMS = {"nodes": node_items, "edges": edge_items}
CHANNELS = 8  # lines of the table, for each model


@dataclasses.dataclass(frozen=True)
class Cell:
    """The circuits of a model ("sparse", "dense") by task, pruned by a recipe ("mean", "strict")."""

    side: str
    recipe: str
    model: Model
    circuits: Mapping[str, Circuit]

    def items(self, kind: str) -> dict[str, Items]:
        """The "nodes" or "edges" of every circuit."""
        return {task: ITEMS[kind](circuit) for task, circuit in self.circuits.items()}

    @functools.cached_property
    def pairs(self) -> list[dict]:
        """A row for each kind of item and each two tasks whose circuits both have some."""
        sizes, rows = sizes_of_model(self.model.params), []
        for kind in ITEMS:
            found = {task: items for task, items in self.items(kind).items() if items}
            for (one, first), (other, second) in itertools.combinations(found.items(), 2):
                expected = chance(first, second, sizes)
                rows.append(
                    {
                        "model": self.side,
                        "recipe": self.recipe,
                        "items": kind,
                        "tasks": [one, other],
                        "sizes": [len(first), len(second)],
                        "common": len(first & second),
                        "common_by_chance": round(expected.common, 4),
                        "jaccard": round(jaccard(first, second) or 0.0, 4),
                        "jaccard_by_chance": round(expected.jaccard, 5),
                    }
                )
        return rows

    @functools.cached_property
    def uses(self) -> list[dict]:
        """A row for each kind of item and each number of tasks: how many items so many tasks use."""
        sizes, rows = sizes_of_model(self.model.params), []
        for kind in ITEMS:
            circuits = list(self.items(kind).values())
            seen, expected = Counter(uses(circuits).values()), uses_by_chance(circuits, sizes)
            for tasks in range(1, len(circuits) + 1):
                row = {"model": self.side, "recipe": self.recipe, "items": kind, "tasks": tasks}
                rows.append({**row, "count": seen[tasks], "by_chance": float(expected[tasks])})
        return rows


def load_cells(
    models: Mapping[str, Model], folder: Path, recipes: Sequence[str], tasks: Sequence[str]
) -> list[Cell]:
    """The circuits in SIDE/RECIPE/TASK.json that reach their target, for every model and recipe.

    Raises InputError where fewer than two tasks have one, and for a circuit of another model.
    """
    cells = []
    for side, recipe in itertools.product(sorted(models, reverse=True), recipes):
        files = {task: folder / side / recipe / f"{task}.json" for task in tasks}
        loaded = {task: load_circuit(file) for task, file in files.items() if file.exists()}
        for one in loaded.values():
            check_circuit(models[side], one)
        found = {task: one for task, one in loaded.items() if one.provenance["reached"]}
        require(len(found) > 1, f"circuits of {side}, {recipe}", sorted(found), f"two or more in {folder}")
        cells.append(Cell(side, recipe, models[side], found))
    return cells


def write_sharing(cells: Sequence[Cell], directory: Path) -> str:
    """Writes the three files of rows, table.md and sharing.png to `directory`; returns the table."""
    for name, rows in {
        "pairs": [row for cell in cells for row in cell.pairs],
        "uses": [row for cell in cells for row in cell.uses],
        "channels": [row for cell in cells for row in _channels(cell)],
    }.items():
        write_whole(directory / f"{name}.jsonl", json_lines(rows))
    table = format_sharing(cells)
    write_whole(directory / "table.md", table)
    draw_sharing(cells, directory / "sharing.png")
    return table


def _channels(cell: Cell) -> Iterator[dict]:
    for one in residual_channels(list(cell.circuits.values())):
        yield {"model": cell.side, "recipe": cell.recipe, **dataclasses.asdict(one)}


def common_tasks(cells: Sequence[Cell]) -> list[str]:
    """The tasks for which every cell has a circuit with nodes and edges."""
    each = [{task for task, one in cell.circuits.items() if one.nodes and one.edges} for cell in cells]
    return [task for task in cells[0].circuits if all(task in tasks for tasks in each)]


def format_sharing(cells: Sequence[Cell]) -> str:
    """Markdown: sharing over the tasks that all cells have, uses of nodes, and the busiest channels."""
    tasks = common_tasks(cells)
    text = [
        "# What circuits of different tasks share\n",
        f"Means over all pairs of {counted(len(tasks), 'task')} with edges in the circuits of every column:",
        f"{', '.join(tasks) or 'none'}.\n",
        "In brackets: by chance, with as many items in every layer's site or matrix, drawn from all of the",
        "model's. A query and a key with one gate count once.\n",
        "| | " + " | ".join(f"{cell.side}, {cell.recipe}" for cell in cells) + " |",
        "|---" * (len(cells) + 1) + "|",
    ]
    for kind in ITEMS:
        sizes = [np.mean([len(cell.items(kind)[task]) for task in tasks]) for cell in cells]
        text.append(f"| {kind} of a circuit | " + " | ".join(f"{size:.0f}" for size in sizes) + " |")
        for said, of, digits in (
            (f"{kind} that two share", "common", 2),
            ("... Jaccard index", "jaccard", 3),
        ):
            means = [_mean_pairs(cell, kind, tasks, of, digits) for cell in cells]
            text.append(f"| {said} | " + " | ".join(means) + " |")
    text += ["", *_uses_table(cells), "", *_channels_table(cells)]
    return "\n".join(text) + "\n"


def _mean_pairs(cell: Cell, kind: str, tasks: Sequence[str], of: str, digits: int) -> str:
    rows = [row for row in cell.pairs if row["items"] == kind and set(row["tasks"]) <= set(tasks)]
    if not rows:
        return "-"
    mean, expected = (np.mean([row[name] for row in rows]) for name in (of, f"{of}_by_chance"))
    return f"{mean:.{digits}f} ({expected:.{digits}f})"


def _uses_table(cells: Sequence[Cell]) -> Iterator[str]:
    yield "Nodes that so many tasks use, of all tasks of a column; in brackets by chance:\n"
    yield "| tasks | " + " | ".join(f"{c.side}, {c.recipe} ({len(c.circuits)})" for c in cells) + " |"
    yield "|---" * (len(cells) + 1) + "|"
    for name, low, high in (
        ("1", 1, 1),
        ("2", 2, 2),
        ("3 or 4", 3, 4),
        ("5 to 9", 5, 9),
        ("10 or more", 10, 99),
    ):
        entries = []
        for cell in cells:
            rows = [r for r in cell.uses if r["items"] == "nodes" and low <= r["tasks"] <= high]
            entries.append(f"{sum(r['count'] for r in rows)} ({sum(r['by_chance'] for r in rows):.1f})")
        yield f"| {name} | " + " | ".join(entries) + " |"


def _channels_table(cells: Sequence[Cell]) -> Iterator[str]:
    yield "Residual channels of the circuits: how many they use, how many of these two or more tasks use, and"
    yield "how many carry several features (two or more tasks write them, from two or more sources):\n"
    yield "| | used | by two or more | several features | channels of the model |"
    yield "|---" * 5 + "|"
    for cell in cells:
        found = residual_channels(list(cell.circuits.values()))
        several = sum(one.tasks > 1 for one in found)
        features = sum(one.writing > 1 and one.sources > 1 for one in found)
        width = cell.model.config.d_model
        yield f"| {cell.side}, {cell.recipe} | {len(found)} | {several} | {features} | {width} |"
    yield ""
    yield "The channels of most tasks:\n"
    headings = ("model", "channel", "tasks", "that write it", "with nodes", "from sources", "that read it")
    headings = (*headings, "with nodes", "for targets")
    yield "| " + " | ".join(headings) + " |"
    yield "|---" * len(headings) + "|"
    for cell in (cell for cell in cells if cell.recipe == cells[0].recipe):
        for one in residual_channels(list(cell.circuits.values()))[:CHANNELS]:
            entries = (
                one.channel,
                one.tasks,
                one.writing,
                one.writers,
                one.sources,
                one.reading,
                one.readers,
            )
            yield f"| {cell.side} | " + " | ".join(map(str, (*entries, one.targets))) + " |"


def draw_sharing(cells: Sequence[Cell], path: Path) -> None:
    """A heat map of the nodes' Jaccard index for each model.

    The first recipe is below the diagonal, the second above it.
    """
    sides = list(dict.fromkeys(cell.side for cell in cells))
    tasks = list(dict.fromkeys(task for cell in cells for task in cell.circuits))
    figure = new_figure()
    figure.set_size_inches(12, 6.4)
    for place, side in enumerate(sides):
        own = [cell for cell in cells if cell.side == side]
        values = np.full((len(tasks), len(tasks)), np.nan)
        for cell, upper in zip(own, (False, True)):
            for row in (row for row in cell.pairs if row["items"] == "nodes"):
                low, high = sorted(map(tasks.index, row["tasks"]))
                values[(low, high) if upper else (high, low)] = row["jaccard"]
        axes = figure.add_subplot(1, len(sides), place + 1)
        image = axes.imshow(values, vmin=0, vmax=0.5, cmap="viridis")
        axes.set_xticks(range(len(tasks)), tasks, rotation=90, fontsize=7)
        axes.set_yticks(range(len(tasks)), tasks if place == 0 else [], fontsize=7)
        recipes = ", ".join(f"{cell.recipe} {where}" for cell, where in zip(own, ("below", "above")))
        axes.set_title(f"{side}\n{recipes} the diagonal; white: no circuit with nodes", fontsize=8)
    label = "Jaccard index of the circuits' nodes (0.5 and more: yellow)"
    figure.colorbar(image, ax=figure.axes, label=label, shrink=0.7)
    save_figure(figure, path)
