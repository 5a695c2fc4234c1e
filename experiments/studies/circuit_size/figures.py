"""Figures of circuit sizes against the target loss (the paper's figures 2 and 31)."""

from collections.abc import Sequence
from pathlib import Path

from experiments.studies.circuit_size.sizes import MODELS, SizeComparison
from experiments.studies.figure import new_figure, save_figure

COLORS = {"sparse": "#0868ac", "dense": "#d95f0e"}
STYLES = {"nodes": "-", "edges": "-", "attribution": "--", "magnitude": "-.", "random": ":"}
LABELS = {"nodes": "learned gates on nodes", "edges": "learned gates on nodes and edges"}


def draw_sizes(comparisons: Sequence[SizeComparison], title: str, path: str | Path) -> None:
    """Edges against target loss, geometric mean over tasks with its interval, as a PNG at `path`.

    Draws a curve for each model and method; below each target is the number of tasks for which both models
    have a circuit. Raises InputError if matplotlib is missing.
    """
    figure = new_figure()
    axes = figure.add_subplot()
    for method in dict.fromkeys(one.method for one in comparisons):
        points = [one for one in comparisons if one.method == method and one.ratio]
        for model in MODELS if points else ():
            _curve(axes, points, model)
    axes.set(xscale="log", yscale="log", ylabel="edges (geometric mean over tasks)", title=title)
    # the counts of the first method, if a later one missed a target
    counts = {one.target: len(one.tasks) for one in reversed(comparisons)}
    axes.set_xticks(list(counts), [f"{target:g}\nn = {count}" for target, count in counts.items()])
    axes.set_xticks([], minor=True)
    axes.set_xlabel("target loss (nats), and number of tasks in the mean")
    axes.grid(alpha=0.25)
    if axes.lines:
        # with long labels, two columns (one per model) would be wider than the figure
        longest = max(len(line.get_label()) for line in axes.lines)
        figure.legend(frameon=False, loc="outside lower center", ncols=1 if longest > 35 else 2)
    save_figure(figure, path)


def _curve(axes, points: Sequence[SizeComparison], model: str) -> None:
    method = points[0].method
    targets = [one.target for one in points]
    means = [getattr(one, model) for one in points]
    look = {"color": COLORS[model], "linestyle": STYLES[method]}
    label = f"{model}, {LABELS.get(method, method)}"
    axes.plot(targets, [mean.value for mean in means], marker="o", markersize=4, label=label, **look)
    band = [mean.low for mean in means], [mean.high for mean in means]
    axes.fill_between(targets, *band, color=COLORS[model], alpha=0.12, linewidth=0)
