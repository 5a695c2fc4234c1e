"""The picture of circuits' sizes: edges of every task's circuits in a sparse and a dense model."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from experiments.studies.figure import new_figure, save_figure

COLORS = {"sparse": "C0", "dense": "C1"}


def draw_edges(
    edges: Mapping[tuple[str, str, str], float | None],
    recipes: Mapping[str, str],
    target: float,
    path: Path,
) -> None:
    """A row for each task, the smallest sparse circuits of the last recipe on top.

    edges: of each circuit, by side, recipe and task; None for one that misses the target. recipes: what the
    legend says of each. Circuits of the last one are full circles, those of others hollow.
    """
    last = list(recipes)[-1]
    sizes = {key: max(1, count) for key, count in edges.items() if count is not None}
    tasks = {task for _, _, task in edges}
    by_size = sorted(tasks, key=lambda task: (-sizes.get(("sparse", last, task), np.inf), task))
    figure = new_figure()
    axes = figure.add_subplot()
    for side, color in COLORS.items():
        columns = [[sizes.get((side, recipe, task), np.nan) for task in by_size] for recipe in recipes]
        for place, ends in enumerate(zip(*columns)):
            axes.plot(ends, [place] * len(ends), color=color, linewidth=1, alpha=0.6)
        for (recipe, said), column in zip(recipes.items(), columns):
            fill = color if recipe == last else "white"
            label = ", ".join(filter(None, (side, said)))
            axes.plot(column, range(len(by_size)), "o", color=color, markerfacecolor=fill, label=label)
    axes.set_yticks(range(len(by_size)), by_size, fontsize=8)
    axes.set(xscale="log", xlabel=f"edges at {target:g} nats (1 also stands for none)")
    axes.grid(alpha=0.25)
    axes.legend(frameon=False, fontsize=8, loc="lower left")
    save_figure(figure, path)
