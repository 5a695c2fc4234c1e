"""The report of a circuit-size study: summary.json, tables as Markdown, figures as PNG."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

from experiments.studies.circuit_size.figures import draw_sizes
from experiments.studies.circuit_size.sizes import MODELS, SizeComparison, SizeRow
from experiments.studies.circuit_size.tables import comparisons, size_table
from sparse_jax.files import json_lines, json_text, write_whole
from sparse_jax.phrases import counted

# what each figure compares; circuits of nodes and of edges are never in the same one
FIGURES = {
    "circuit_size": ("Circuits of gates on nodes", ("nodes", "attribution")),
    "circuit_size_edges": ("Circuits of gates on nodes and edges", ("edges",)),
    "methods": ("Gates against rankings", ("nodes", "attribution", "magnitude", "random")),
}
TABLES = {"nodes": "Gates on nodes alone", "edges": "Gates on nodes, then on edges"}
EXPLAINED = """\
Edges are nonzero weights between kept nodes. Losses are task losses in nats. A circuit is chosen on the
validation split, and its loss is measured once on the test split, ± its standard error. "Before elimination"
gives nodes / edges after ranking by gate logits. `*`: the target was missed, and the closest circuit is
shown; such tasks, and those that a model cannot do at all, are not included in any mean. A circuit without
edges counts as one edge in ratios and means; summary.json also has the ratio without such tasks.
"""


def write_report(
    rows: Sequence[SizeRow], about: Mapping[str, object], headline: float, directory: Path, seed: int = 0
) -> str:
    """Writes rows, summary, tables and figures to `directory`; returns the lines about the target `headline`.

    about: what summary.json contains besides the comparisons (command, seed, machine, time, models).
    """
    write_whole(directory / "rows.jsonl", json_lines(map(dataclasses.asdict, rows)))
    found = comparisons(rows, seed)
    summary = {
        **about,
        "headline": {one.method: one.plain() for one in found if one.target == headline},
        "comparisons": [one.plain() for one in found],
    }
    write_whole(directory / "summary.json", json_text(summary, indent=1) + "\n")
    lines = [say(one) for one in found if one.target == headline and one.method in TABLES]
    sections = [
        f"## {title}, target loss {headline:g}\n\n{size_table(rows, method, headline)}"
        for method, title in TABLES.items()
        if any(one.method == method for one in found)
    ]
    text = "\n".join(["# Circuit sizes", EXPLAINED, *(f"- {line}" for line in lines), "", *sections])
    write_whole(directory / "table.md", text)
    for name, (title, methods) in FIGURES.items():
        drawn = [one for method in methods for one in found if one.method == method]
        if len({one.target for one in drawn}) > 1:  # no curve for a single target
            draw_sizes(drawn, title, directory / f"{name}.png")
    return "\n".join(lines)


def say(one: SizeComparison) -> str:
    """A comparison as a line of text, including the tasks left out."""
    name = f"{one.method} at {one.target:g} nats"
    if one.ratio is None:
        text = f"{name}: no task has a circuit of both models"
    else:
        edges = ", ".join(f"{model} {getattr(one, model).shown(',.1f')}" for model in MODELS)
        test = ", ".join(f"{model} {one.within_target[model]}" for model in MODELS)
        over = counted(len(one.tasks), "task")
        text = (
            f"{name}: dense / sparse {one.ratio.shown(',.1f')} over {over} (edges: {edges}; "
            f"within the target on the test split: {test} of {len(one.tasks)})"
        )
    zero = {model: names for model, names in one.zero_edges.items() if names}
    if zero:
        names = ", ".join(f"{model} {' '.join(tasks)}" for model, tasks in zero.items())
        other = "none" if one.ratio_of_nonzero is None else one.ratio_of_nonzero.shown(",.1f")
        text += f"; no edge at all: {names} (ratio without them: {other})"
    if one.left_out:
        text += f"; left out: {', '.join(f'{task} ({why})' for task, why in one.left_out.items())}"
    return text
