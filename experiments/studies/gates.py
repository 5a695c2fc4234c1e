"""Rows, table and figure of circuits found with different gates."""

import dataclasses
import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from experiments.studies.figure import new_figure, save_figure
from sparse_jax.circuits.graph import Circuit, load_circuit
from sparse_jax.faithfulness.intervals import geometric_mean
from sparse_jax.files import json_lines, write_whole
from sparse_jax.inputs import require
from sparse_jax.models.model import Model
from sparse_jax.pruning.config import PruneConfig
from sparse_jax.pruning.prune import prune_tasks
from sparse_jax.pruning.recipe import Recipe
from sparse_jax.tasks.task import Task
from sparse_jax.tasks.task_data import TaskData, task_data

MARKERS = {"step": "o", "hard_concrete": "^"}


@dataclasses.dataclass(frozen=True)
class GateRow:
    """A circuit for a task in a model ("sparse", "dense"), found with a gate and a penalty.

    ranked: its edges by the ranking of gates alone; edges: after elimination. loss: on the test split.
    """

    model: str
    task: str
    gate: str
    k_coef: float
    reached: bool
    nodes: int
    edges: int
    ranked: int
    loss: float


def measured_gates(
    models: Mapping[str, Model],
    tasks: Sequence[Task],
    recipes: Sequence[PruneConfig],
    workdir: Path,
    published: Path,
) -> Iterator[list[GateRow]]:
    """All rows so far, after each circuit; a task that a model cannot do has none there.

    published: a folder with SIDE/mean/TASK.json; a circuit there that was found with the same settings, for
    the same weights and pairs, is not searched for again.
    """
    rows: list[GateRow] = []
    for prune, side, task in itertools.product(recipes, sorted(models, reverse=True), tasks):
        model = models[side]
        data = task_data(task, model.require_tokenizer(), model.config.context, prune.counts)
        circuit = _known(published / side / "mean" / f"{task.name}.json", model, data, prune)
        place = workdir / side / f"{prune.gate}-{prune.k_coef:g}"
        if circuit is None:
            (circuit,) = prune_tasks(model, None, [data], Recipe(prune), place, f"{side} {prune.gate}")
        if circuit is not None:
            rows.append(_row(side, task.name, prune, circuit))
            yield rows


def _known(file: Path, model: Model, data: TaskData, prune: PruneConfig) -> Circuit | None:
    """The circuit in `file`, if it is of this model and task and was found with these settings."""
    circuit = load_circuit(file) if file.exists() and prune.gate == "step" else None
    if circuit is None:
        return None
    about = circuit.provenance
    # what it does not tell was not there when it was found; of before there were swaps, none are told
    told = {**dataclasses.asdict(PruneConfig()), "swaps": False, **about["pruning"]}
    same_settings = json.dumps(told, sort_keys=True) == json.dumps(dataclasses.asdict(prune), sort_keys=True)
    same_origin = (about["weights"], about["pairs"]) == (model.fingerprint, data.fingerprint)
    return circuit if same_settings and same_origin else None


def _row(side: str, task: str, prune: PruneConfig, circuit: Circuit) -> GateRow:
    about, counts = circuit.provenance, circuit.counts
    return GateRow(
        side,
        task,
        prune.gate,
        prune.k_coef,
        bool(about["reached"]),
        counts["nodes"],
        counts["edges"],
        about["discretized"]["edges"],
        circuit.losses["circuit"],
    )


def write_gates(rows: Sequence[GateRow], directory: Path) -> str:
    """Writes rows.jsonl, table.md and gates.png to `directory`; returns the table.

    Raises InputError without rows.
    """
    require(len(rows) > 0, "rows", [], "at least one circuit")
    write_whole(directory / "rows.jsonl", json_lines(map(dataclasses.asdict, rows)))
    table = format_gates(rows)
    write_whole(directory / "table.md", table)
    draw_gates(rows, directory / "gates.png")
    return table


def _cells(rows: Sequence[GateRow], side: str) -> dict[tuple[str, float], dict[str, GateRow]]:
    """The rows that reach the target by gate and penalty, then by task."""
    cells: dict[tuple[str, float], dict[str, GateRow]] = {}
    for row in rows:
        if row.model == side:
            cells.setdefault((row.gate, row.k_coef), {}).update({row.task: row} if row.reached else {})
    return cells


def format_gates(rows: Sequence[GateRow]) -> str:
    """Markdown: geometric means over the tasks that all gates of a model reach, then every circuit."""
    text = [
        "# Step gates and hard-concrete gates\n",
        "Edges at the target loss, geometric means over the tasks that every line of a model reaches; after",
        "the ranking by gates alone, and after elimination. No edge counts as one.\n",
        "| model | gate | penalty | reached | tasks | edges, ranked | edges | nodes | loss, test split |",
        "|---" * 9 + "|",
    ]
    for side in dict.fromkeys(row.model for row in rows):
        cells = _cells(rows, side)
        tasks = set.intersection(*(set(cell) for cell in cells.values()))
        for (gate, k_coef), cell in cells.items():
            own = [cell[task] for task in sorted(tasks)]
            tried = sum((row.model, row.gate, row.k_coef) == (side, gate, k_coef) for row in rows)
            means = ["-"] * 4
            if own:
                counts = [(max(1, row.ranked), max(1, row.edges), max(1, row.nodes)) for row in own]
                means = [f"{geometric_mean(one).value:.0f}" for one in zip(*counts)]
                means.append(f"{sum(r.loss for r in own) / len(own):.3f}")
            start = (side, gate, f"{k_coef:g}", f"{len(cell)} of {tried}", len(own))
            text.append("| " + " | ".join(map(str, (*start, *means))) + " |")
    text += ["", "| task | model | gate | penalty | edges, ranked | edges | nodes | loss |", "|---" * 8 + "|"]
    for row in sorted(rows, key=lambda r: (r.model != "sparse", r.task, r.k_coef, r.gate != "step")):
        edges = str(row.edges) if row.reached else "missed"
        start = (row.task, row.model, row.gate, f"{row.k_coef:g}", row.ranked, edges, row.nodes)
        text.append("| " + " | ".join(map(str, start)) + f" | {row.loss:.3f} |")
    return "\n".join(text) + "\n"


def draw_gates(rows: Sequence[GateRow], path: Path) -> None:
    """Edges of every task's circuit, the two gates side by side; small markers: before elimination."""
    figure = new_figure()
    sides = list(dict.fromkeys(row.model for row in rows))
    figure.set_size_inches(5.5 * len(sides), 5)
    for place, side in enumerate(sides):
        axes = figure.add_subplot(1, len(sides), place + 1)
        tasks = list(dict.fromkeys(row.task for row in rows if row.model == side))
        cells = _cells(rows, side)
        for number, ((gate, k_coef), cell) in enumerate(cells.items()):
            own = [(tasks.index(task), row) for task, row in cell.items()]
            shift = 0.14 * (number - (len(cells) - 1) / 2)
            at = [task + shift for task, _ in own]
            marker, color = MARKERS[gate], f"C{number}"
            axes.plot(at, [max(1, row.ranked) for _, row in own], marker, ms=3, color=color, alpha=0.5)
            edges, label = [max(1, row.edges) for _, row in own], f"{gate}, {k_coef:g}"
            axes.plot(at, edges, marker, ms=7, color=color, label=label)
        axes.set_xticks(range(len(tasks)), tasks, rotation=20, ha="right", fontsize=8)
        axes.set(yscale="log", title=side, ylabel="edges (small: before elimination)")
        axes.grid(alpha=0.25, axis="y")
        axes.legend(frameon=False, fontsize=8)
    save_figure(figure, path)
