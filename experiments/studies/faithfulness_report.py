"""What `studies.faithfulness` measured, as a table and two figures."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from experiments.studies.edges_figure import draw_edges
from experiments.studies.faithfulness import Row
from experiments.studies.figure import new_figure, save_figure
from sparse_jax.faithfulness.again import ARBITRARY
from sparse_jax.faithfulness.intervals import geometric_mean
from sparse_jax.faithfulness.scorecard import (
    BACKUP,
    CONSTANTS,
    CONTROL,
    EDGES,
    GROWTH,
    LOSS,
    OTHER_SEEDS,
    ROLES,
)
from sparse_jax.files import json_lines, write_whole
from sparse_jax.inputs import require
from sparse_jax.phrases import counted
from sparse_jax.pruning.config import PruneConfig

# Rows of the table: a heading, and the name and the ablation of a figure of the scorecard.
FIGURES = (
    ("full model", "loss of the full model", ""),
    ("mean", "loss of the circuit", "mean"),
    ("zero", "loss of the circuit", "zero"),
    ("resample", "loss of the circuit", "resample"),
    ("same position", "loss of the circuit", "resample_position"),
    ("training text", "loss of the circuit", "resample_text"),
    ("stochastic", "loss of the circuit", "stochastic"),
    ("adversary, shared", "loss of the circuit", "adversarial_shared"),
    ("adversary, each prompt", "loss of the circuit", "adversarial"),
    ("worst of 16 draws", "loss of the circuit, worst of 16 draws a pair", "resample"),
    ("KL from the full model", "KL from the full model's distribution", "mean"),
    ("same answer as the model", "same answer as the full model", "mean"),
    ("same answer where the model errs", "same answer where the full model errs", "mean"),
    ("faithfulness", "faithfulness of the logit difference", "mean"),
    ("CPR over share", "CPR over the share of nodes", "mean"),
    ("CPR over log share", "CPR over the logarithm of the share", "mean"),
    ("CMD over share", "CMD over the share of nodes", "mean"),
    ("CMD over log share", "CMD over the logarithm of the share", "mean"),
    ("incompleteness", "incompleteness, up to 5 nodes chosen greedily", "mean"),
    ("nodes that matter", "nodes that matter more than 9 in 10 added at random", "mean"),
    ("nodes that hold a constant", CONSTANTS, "mean"),
    ("circuit ablated", "loss with the circuit ablated", "mean"),
    ("random ablated", "loss with random nodes ablated, 100 sets", "mean"),
    ("random sets that do less harm", "random sets that do less harm", "mean"),
    ("random circuits that are worse", "random circuits that are worse", "mean"),
    ("answers follow it", "answers flipped by swapping the circuit's q, k, v and neurons", ""),
    ("answers follow the rest", "answers flipped by swapping all other q, k, v and neurons", ""),
    ("role correlation", f"{ROLES}: median", "mean"),
    ("role correlation, lower quartile", f"{ROLES}: lower quartile", "mean"),
    ("role correlation, upper quartile", f"{ROLES}: upper quartile", "mean"),
    (
        "unexplained, model with circuit's values",
        "unexplained variance of the model with kept nodes as in the circuit",
        "mean",
    ),
    (
        "unexplained, circuit with model's values",
        "unexplained variance of the circuit with kept nodes as in the model",
        "mean",
    ),
    ("attention moved", "attention moved between model and circuit", "mean"),
    ("attention's entropy / log n, model", "evenness of attention in the model", "mean"),
    ("attention's entropy / log n, circuit", "evenness of attention in the circuit", "mean"),
    ("shifted accuracy, model", "accuracy of the full model, shifted split", ""),
    ("shifted accuracy, circuit", "accuracy of the circuit, shifted split", "mean"),
    ("other words, model", "accuracy of the full model, words split", ""),
    ("other words, circuit", "accuracy of the circuit, words split", "mean"),
    ("deeper nesting, model", "accuracy of the full model, nesting split", ""),
    ("deeper nesting, circuit", "accuracy of the circuit, nesting split", "mean"),
    ("distractors, model", "accuracy of the full model, distractors split", ""),
    ("distractors, circuit", "accuracy of the circuit, distractors split", "mean"),
)
# Rows for circuits that were pruned again, under the ablation of their recipe, and columns of their table.
AGAIN = (
    ("other seeds within the target", OTHER_SEEDS),
    ("nodes in common with these", "nodes in common with them"),
    ("edges of these", "edges of these, geometric mean"),
    ("pruned for arbitrary answers: loss", f"{CONTROL} {ARBITRARY}{LOSS}"),
    ("pruned without its q, k, v and neurons: loss", f"{BACKUP} 1{LOSS}"),
    ("... edges, where the target is reached", f"{BACKUP} 1{EDGES}"),
    ("... growth of its nodes' effects, median", f"{BACKUP} 1{GROWTH}: median"),
    ("without those of both: loss", f"{BACKUP} 2{LOSS}"),
    ("... edges, where the target is reached again", f"{BACKUP} 2{EDGES}"),
)
# Tests whose null hypothesis is rejected below this p-value, corrected as the scorecard does.
LEVEL = 0.05
TESTS = (
    ("equivalent to the model", "not equivalent to the model"),
    ("the rest is independent of the model", "the rest still knows what the model knows"),
    ("beats at most 9 in 10 random circuits", "better than 9 in 10 random circuits"),
    ("ablated, worse than at most 9 in 10 random sets", "ablated, worse than 9 in 10 random sets"),
    ("a random node could replace one", "no node that a random one could replace"),
)


def write_results(rows: Sequence[Row], recipes: Mapping[str, PruneConfig], directory: Path) -> str:
    """Writes rows.jsonl, table.md and two figures to `directory`; returns the table.

    Raises InputError without a row, and for recipes of different targets.
    """
    require(len(rows) > 0, "rows", [], "at least one circuit")
    target = target_of(recipes)
    write_whole(directory / "rows.jsonl", json_lines(map(dataclasses.asdict, rows)))
    table = format_rows(rows, recipes)
    write_whole(directory / "table.md", table)
    draw_losses(rows, target, directory / "losses.png")
    edges = {
        (row.model, row.recipe, row.task): row.edges if row.reached else None
        for row in rows
        if not row.control
    }
    said = {name: "mean ablation only" if name == "mean" else name for name in recipes}
    draw_edges(edges, said, target, directory / "edges.png")
    return table


def target_of(recipes: Mapping[str, PruneConfig]) -> float:
    """The target loss of all recipes. Raises InputError if they differ."""
    targets = sorted({prune.target_loss for prune in recipes.values()})
    require(len(targets) == 1, "recipes", targets, "the same target_loss in all")
    return targets[0]


def cells(rows: Sequence[Row]) -> list[tuple[str, str]]:
    """The models and recipes that have rows: ("sparse", "mean"), ..., the recipes of a model side by side."""
    return list(dict.fromkeys((row.model, row.recipe) for row in sorted(rows, key=_cell)))


def _cell(row: Row) -> tuple[bool, bool]:
    return row.model != "sparse", row.recipe != "mean"


def common_tasks(rows: Sequence[Row], chosen: Sequence[tuple[str, str]], fewest: int = 1) -> list[str]:
    """The tasks whose circuits reach the target, with at least `fewest` edges, in all `chosen` cells."""
    done = {(row.model, row.recipe, row.task) for row in rows if row.reached and row.edges >= fewest}
    names = dict.fromkeys(row.task for row in rows)
    return [task for task in names if all((*cell, task) in done for cell in chosen)]


def format_rows(rows: Sequence[Row], recipes: Mapping[str, PruneConfig]) -> str:
    """Markdown: what circuits cost, and the mean of every figure over the tasks that all cells have.

    Of figures that some circuits lack, the number of those that have it is given.
    """
    target = target_of(recipes)
    controls, rows = [row for row in rows if row.control], [row for row in rows if not row.control]
    chosen = cells(rows)
    tasks = common_tasks(rows, chosen)
    named = [f"{model}, {recipe}" for model, recipe in chosen]
    text = [
        "# Are the circuits what the models use?\n",
        f"Circuits at {target:g} nats, one pruning each, chosen by the worst of the recipe's ablations:\n",
        *(
            f"- {name}: {' and '.join(prune.kinds)}, with {prune.confidence:g} standard errors added"
            for name, prune in recipes.items()
        ),
        "",
        f"Means over {counted(len(tasks), 'task')} that every column has a circuit with edges for:",
        f"{', '.join(tasks) or 'none yet'}.\n",
        "| | " + " | ".join(named) + " |",
        "|---" * (len(named) + 1) + "|",
    ]
    by_cell = {cell: [row for row in rows if (row.model, row.recipe) == cell] for cell in chosen}
    counts = [f"{sum(row.reached for row in by_cell[cell])} of {len(by_cell[cell])}" for cell in chosen]
    text.append("| tasks that reach the target | " + " | ".join(counts) + " |")
    within = [_share_within(by_cell[cell], target) for cell in chosen]
    text.append("| of these, within it on the test split | " + " | ".join(within) + " |")
    common = {cell: [row for row in by_cell[cell] if row.task in tasks] for cell in chosen}
    if tasks:
        edges = [geometric_mean([row.edges for row in common[cell]]) for cell in chosen]
        text.append("| edges, geometric mean | " + " | ".join(one.shown(".0f") for one in edges) + " |")
        for heading, name, ablation in FIGURES:
            values = [_mean(common[cell], name, ablation) for cell in chosen]
            text.append(f"| {heading} | " + " | ".join(values) + " |")
        for heading, name in AGAIN:
            values = [_mean(common[cell], name, None) for cell in chosen]
            if set(values) != {"-"}:
                text.append(f"| {heading} | " + " | ".join(values) + " |")
        for heading, name in TESTS:
            counts = [_rejected(common[cell], f"test: {name}") for cell in chosen]
            text.append(f"| rejected: {heading} | " + " | ".join(counts) + " |")
        text += ["", *_ratios(rows, chosen)]
    text += [
        "",
        "| task | " + " | ".join(f"{one}: edges" for one in named) + " |",
        "|---" * (len(named) + 1) + "|",
    ]
    for task in dict.fromkeys(row.task for row in rows):
        found = {(row.model, row.recipe): row for row in rows if row.task == task}
        text.append(f"| {task} | " + " | ".join(_edges(found.get(cell)) for cell in chosen) + " |")
    return "\n".join([*text, *_pruned_again(rows), *_of_controls(rows, controls)]) + "\n"


def _pruned_again(rows: Sequence[Row]) -> Iterator[str]:
    """What pruning again gave, for each circuit that it was done for."""
    again = sorted((row for row in rows if row.again), key=_cell)
    if not again:
        return
    yield from ("", "| pruned again | edges | " + " | ".join(heading for heading, _ in AGAIN) + " |")
    yield "|---" * (len(AGAIN) + 2) + "|"
    for row in again:
        values = [row.value(name, None) for _, name in AGAIN]
        shown = ["-" if value is None else f"{value:.4g}" for value in values]
        yield f"| {row.task}, {row.model}, {row.recipe} | {row.edges} | " + " | ".join(shown) + " |"


def _of_controls(rows: Sequence[Row], controls: Sequence[Row]) -> Iterator[str]:
    """What an arbitrary function of the prompt costs under the same judge, beside the real task."""
    if not controls:
        return
    yield from ("", "| control, strict | model | edges | edges of the real task |", "|---|---|---|---|")
    for control in controls:
        real = control.task.rpartition(".")[0]
        own = (real, control.model, control.recipe)
        found = [row for row in rows if (row.task, row.model, row.recipe) == own]
        beside = _edges(found[0] if found else None)
        yield f"| {control.task} | {control.model} | {_edges(control)} | {beside} |"


def _share_within(rows: Sequence[Row], target: float) -> str:
    reached = [row for row in rows if row.reached]
    return f"{sum(row.losses['circuit'] <= target for row in reached)} of {len(reached)}"


def _mean(rows: Sequence[Row], name: str, ablation: str | None) -> str:
    values = [value for row in rows if (value := row.value(name, ablation)) is not None]
    some = f" ({len(values)} of {len(rows)})" if len(values) < len(rows) else ""
    return f"{np.mean(values):.3f}{some}" if values else "-"


def _rejected(rows: Sequence[Row], name: str) -> str:
    values = [value for row in rows if (value := row.value(name, "mean")) is not None]
    return f"{sum(value < LEVEL for value in values)} of {len(values)}"


def _edges(row: Row | None) -> str:
    if row is None:
        return "-"
    return str(row.edges) if row.reached else f"missed ({row.losses['validation']:.2f} nats)"


def _ratios(rows: Sequence[Row], chosen: Sequence[tuple[str, str]]) -> Iterator[str]:
    """Edges of dense circuits over those of sparse ones, under each recipe, over the same tasks."""
    with_edges = common_tasks(rows, chosen)
    reached = common_tasks(rows, chosen, fewest=0)
    edges = {(row.model, row.recipe, row.task): max(1, row.edges) for row in rows}
    for recipe in dict.fromkeys(recipe for _, recipe in chosen):
        if {("sparse", recipe), ("dense", recipe)} <= set(chosen) and with_edges:
            found = []
            for tasks in (with_edges, reached):
                pairs = [[edges[side, recipe, task] for side in ("dense", "sparse")] for task in tasks]
                ratio = geometric_mean([dense / sparse for dense, sparse in pairs])
                found.append(f"{ratio.shown('.1f')} over {counted(len(tasks), 'task')}")
            yield f"Dense over sparse, {recipe}: {found[0]}; {found[1]} if no edge counts as one.  "


def draw_losses(rows: Sequence[Row], target: float, path: Path) -> None:
    """Losses under each ablation, mean over tasks, for every cell."""
    rows = [row for row in rows if not row.control]
    chosen = cells(rows)
    tasks = common_tasks(rows, chosen)
    kinds = [
        (heading, name, ablation) for heading, name, ablation in FIGURES if name == "loss of the circuit"
    ]
    figure = new_figure()
    axes = figure.add_subplot()
    for number, cell in enumerate(chosen):
        own = [row for row in rows if (row.model, row.recipe) == cell and (row.task in tasks or not tasks)]
        losses = [np.mean([row.value(*one[1:]) or np.nan for row in own]) for one in kinds]
        places = np.arange(len(kinds)) + (number - (len(chosen) - 1) / 2) * 0.2
        axes.bar(places, losses, 0.18, label=", ".join(cell))
    axes.axhline(target, color="gray", linewidth=1, linestyle="--")
    axes.set_xticks(np.arange(len(kinds)), [heading for heading, _, _ in kinds], rotation=20, ha="right")
    axes.set(yscale="log", ylabel="loss of the circuit (nats)")
    axes.legend(frameon=False)
    save_figure(figure, path)
