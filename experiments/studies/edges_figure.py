"""The picture of circuits' sizes: edges of every task's circuits in a sparse and a dense model."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from experiments.studies.figure import new_figure, save_figure

COLORS = {"sparse": "C0", "dense": "C1"}


def draw_edges(edges: Mapping[tuple[str, str, str], float], target: float, path: Path) -> None:
    """A row for each task, the smallest sparse circuits first.

    edges: of each circuit, by side, recipe and task. Circuits of the last recipe are full circles, those of
    others hollow; a recipe without a name is not in the legend.
    """
    recipes = list(dict.fromkeys(recipe for _, recipe, _ in edges))
    tasks = {task for _, _, task in edges}
    by_size = sorted(tasks, key=lambda task: (-edges.get(("sparse", recipes[-1], task), np.inf), task))
    figure = new_figure()
    axes = figure.add_subplot()
    for side, color in COLORS.items():
        sizes = {
            recipe: np.maximum(1, [edges.get((side, recipe, task), np.nan) for task in by_size])
            for recipe in recipes
        }
        for place, ends in enumerate(zip(*sizes.values())):
            axes.plot(ends, [place] * len(ends), color=color, linewidth=1, alpha=0.6)
        for recipe in recipes:
            fill = color if recipe == recipes[-1] else "white"
            label = ", ".join(filter(None, (side, recipe)))
            axes.plot(sizes[recipe], range(len(by_size)), "o", color=color, markerfacecolor=fill, label=label)
    axes.set_yticks(range(len(by_size)), by_size, fontsize=8)
    axes.set(xscale="log", xlabel=f"edges at {target:g} nats (1 also stands for none)")
    axes.grid(alpha=0.25)
    axes.legend(frameon=False, fontsize=8, loc="lower left")
    save_figure(figure, path)
