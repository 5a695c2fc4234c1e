"""The report of the study of bridges: rows, tables, a heat map of paths, and curves of steering."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from experiments.studies.bridges import Row
from experiments.studies.figure import new_figure, save_figure
from sparse_jax.files import json_lines, write_whole

_BEGINS = {"dense": "sparse", "sparse": "dense"}
_LOOKS = {
    "bridge": ("the node, through its bridge row", "#0868ac", "-"),
    "unscaled": ("... not scaled by the ratio of norms", "#0868ac", "--"),
    "difference of means": ("difference of means, same norm", "#d95f0e", "-"),
    "random node": ("random nodes, same norm", "#888888", "-"),
    "whole stream": ("the whole stream of the other prompt", "#238b45", ":"),
}


def write_results(rows: Sequence[Row], output: Path) -> str:
    """Writes rows.jsonl, table.md, paths.png and steering.png to `output`; returns the tables."""
    tables = format_bridges(rows)
    write_whole(output / "rows.jsonl", json_lines(rows))
    write_whole(output / "table.md", tables + "\n")
    draw_paths(_of_kind(rows, "path"), output / "paths.png")
    draw_steering(_of_kind(rows, "steering"), output / "steering.png")
    return tables


def format_bridges(rows: Sequence[Row]) -> str:
    """Markdown: errors by location, loss added by every path, and steering at strengths 0, 1/2 and 1."""
    lines = ["| location | NMSE, encoder | NMSE, decoder |", "|---|---:|---:|"]
    lines += [
        f"| {r['location']} | {r['encoder']:.3f} | {r['decoder']:.3f} |" for r in _of_kind(rows, "error")
    ]
    paths = _of_kind(rows, "path")
    for begins, other in _BEGINS.items():
        losses, names = _grid(paths, begins)
        alone = next(r["loss"] for r in paths if r["begins"] == begins and r["switch"] is None)
        lines += [
            "",
            f"Nats a token added to the loss of the {begins} model ({alone:.3f}) by a switch to the {other} "
            "model (row) and a way back (column):",
            "",
            "| switch at | " + " | ".join(["never back", *(f"back at {name}" for name in names[1:])]) + " |",
            "|---|" + "---:|" * len(names),
        ]
        for name, row in zip(names, losses):
            cells = ["" if np.isnan(x) else f"{x:z.3f}" for x in [row[-1], *row[1:-1]]]
            lines.append(f"| {name} | " + " | ".join(cells) + " |")
    lines += ["", *_steering_table(_of_kind(rows, "steering"))]
    return "\n".join(lines)


def _steering_table(rows: Sequence[Row]) -> list[str]:
    lines = [
        "The dense model's probability of the other answer, at strengths 0, 1/2 and 1:",
        "",
        "| task | node | what is added | 0 | 1/2 | 1 |",
        "|---|---|---|---:|---:|---:|",
    ]
    for task, addition in dict.fromkeys((row["task"], row["addition"]) for row in rows):
        chosen = [row for row in rows if (row["task"], row["addition"]) == (task, addition)]
        strengths, curves = _curves(chosen)
        cells = [f"{np.interp(s, strengths, curves.mean(axis=0)):.3f}" for s in (0, 0.5, 1)]
        lines.append(f"| {task} | {chosen[0]['node']} | {_LOOKS[addition][0]} | {' | '.join(cells)} |")
    return lines


def draw_paths(rows: Sequence[Row], path: Path) -> None:
    """Heat maps of the loss added, by where the run goes over and where it comes back, as a PNG at `path`."""
    figure = new_figure()
    figure.set_size_inches(11, 5)
    panels = figure.subplots(1, 2)
    grids = {begins: _grid(rows, begins) for begins in _BEGINS}
    top = max(np.nanmax(losses) for losses, _ in grids.values())
    for axes, (begins, (losses, names)) in zip(panels, grids.items()):
        image = axes.imshow(losses[:, 1:], cmap="viridis_r", vmin=0, vmax=top)
        for (i, j), value in np.ndenumerate(losses[:, 1:]):
            if not np.isnan(value):
                color = "white" if value > 0.55 * top else "black"
                axes.text(j, i, f"{value:.2f}", ha="center", va="center", color=color)
        axes.set_xticks(range(len(names)), [*names[1:], "never"], rotation=30, ha="right")
        axes.set_yticks(range(len(names)), names)
        axes.set(xlabel="back at", ylabel=f"from {begins} to {_BEGINS[begins]} at")
        axes.set_title(f"nats a token added to the {begins} model's loss", fontsize=11)
    figure.colorbar(image, ax=panels, shrink=0.8)
    save_figure(figure, path)


def draw_steering(rows: Sequence[Row], path: Path) -> None:
    """Probability of the other answer against strength, a panel for each task, as a PNG at `path`."""
    figure = new_figure()
    tasks = list(dict.fromkeys(row["task"] for row in rows))
    figure.set_size_inches(5.5 * len(tasks), 5)
    panels = figure.subplots(1, len(tasks), squeeze=False, sharey=True)[0]
    for axes, task in zip(panels, tasks):
        for addition, (label, color, style) in _LOOKS.items():
            chosen = [row for row in rows if (row["task"], row["addition"]) == (task, addition)]
            strengths, curves = _curves(chosen)
            for curve in curves if len(curves) > 1 else ():
                axes.plot(strengths, curve, color=color, linewidth=0.6, alpha=0.4)
            axes.plot(strengths, curves.mean(axis=0), color=color, linestyle=style, label=label, linewidth=2)
        node = next(row["node"] for row in rows if row["task"] == task)
        axes.set(title=f"{task}: node {node}", xlabel="strength", ylim=(-0.02, 1.02))
        axes.grid(alpha=0.25)
    panels[0].set_ylabel("dense model's probability of the other answer")
    figure.legend(*panels[0].get_legend_handles_labels(), frameon=False, loc="outside lower center", ncols=2)
    save_figure(figure, path)


def _of_kind(rows: Sequence[Row], kind: str) -> list[Row]:
    return [row for row in rows if row["kind"] == kind]


def _grid(rows: Sequence[Row], begins: str) -> tuple[np.ndarray, list[str]]:
    """Loss added [M, M + 1] by switch and way back (last: never), NaN where none; names of locations."""
    chosen = [row for row in rows if row["begins"] == begins and row["switch"] is not None]
    names = [row["switch"] for row in chosen if row["back"] is None]
    losses = np.full((len(names), len(names) + 1), np.nan)
    for row in chosen:
        back = len(names) if row["back"] is None else names.index(row["back"])
        losses[names.index(row["switch"]), back] = row["added"]
    return losses, names


def _curves(rows: Sequence[Row]) -> tuple[np.ndarray, np.ndarray]:
    """Strengths [S], and probabilities [draws, S]."""
    strengths = np.unique([row["strength"] for row in rows])
    draws = sorted({row["draw"] for row in rows})
    found = {(row["draw"], row["strength"]): row["probability"] for row in rows}
    return strengths, np.array([[found[draw, s] for s in strengths] for draw in draws])
