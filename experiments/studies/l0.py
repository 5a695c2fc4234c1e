"""Rows, table and figure of two ways to train sparse weights: loss against nonzero weights."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from experiments.studies.figure import new_figure, save_figure
from sparse_jax.files import json_lines, write_whole
from sparse_jax.models.model import Model
from sparse_jax.sparsity.rules import leaf_fractions
from sparse_jax.sparsity.statistics import dead_neurons
from sparse_jax.training.config import RunConfig
from sparse_jax.trees import named_leaves


@dataclasses.dataclass(frozen=True)
class L0Row:
    """A trained model. method, setting: "topk" and its fraction, or "l0" and its penalty.

    nonzero, weights: of the leaves that are to be sparse. dead: neurons without a weight into or out of them.
    validation: in nats a token.
    """

    name: str
    method: str
    setting: float
    steps: int
    nonzero: int
    weights: int
    dead: int
    validation: float


def l0_row(name: str, run: RunConfig, model: Model, validation: float) -> L0Row:
    """The row of a model."""
    sparsity, leaves = run.sparsity, named_leaves(model.params)
    chosen = [np.asarray(leaves[leaf]) for leaf in leaf_fractions(sparsity, model.params)]
    return L0Row(
        name,
        sparsity.method,
        sparsity.fraction if sparsity.method == "topk" else sparsity.penalty,
        run.training.steps,
        sum(int(np.count_nonzero(leaf)) for leaf in chosen),
        sum(leaf.size for leaf in chosen),
        int(dead_neurons(model.params)["dead"].sum()),
        validation,
    )


def write_l0(rows: Sequence[L0Row], directory: Path) -> str:
    """Writes rows.jsonl, table.md and l0.png to `directory`; returns the table."""
    write_whole(directory / "rows.jsonl", json_lines(map(dataclasses.asdict, rows)))
    table = format_l0(rows)
    write_whole(directory / "table.md", table)
    draw_l0(rows, directory / "l0.png")
    return table


def format_l0(rows: Sequence[L0Row]) -> str:
    """Markdown: a line per model, the densest first."""
    text = [
        "# L0 regularization against the largest weights\n",
        "Nonzero weights of the leaves that are made sparse (matrices of layers, both embeddings), and the",
        "loss on held-out text. Setting: the fraction of the layers' weights that is kept, or the penalty.\n",
        "| method | setting | steps | nonzero | share | dead neurons | validation loss |",
        "|---" * 7 + "|",
    ]
    for row in sorted(rows, key=lambda row: (row.method != "topk", -row.nonzero)):
        share = f"{100 * row.nonzero / row.weights:.1f} %"
        text.append(
            f"| {row.method} | {row.setting:g} | {row.steps:,} | {row.nonzero:,} | {share} | {row.dead} "
            f"| {row.validation:.3f} |"
        )
    return "\n".join(text) + "\n"


def draw_l0(rows: Sequence[L0Row], path: Path) -> None:
    """Validation loss against nonzero weights, a line for each method."""
    figure = new_figure()
    axes = figure.add_subplot()
    for method, label, marker in (("topk", "largest weights kept", "o"), ("l0", "hard-concrete gates", "^")):
        own = sorted((row for row in rows if row.method == method), key=lambda row: row.nonzero)
        if own:
            points = [(max(1, row.nonzero), row.validation) for row in own]
            axes.plot(*zip(*points), marker=marker, label=label)
        for row in own:
            point = max(1, row.nonzero), row.validation
            said = f"{row.setting:g}"
            axes.annotate(said, point, textcoords="offset points", xytext=(6, 4), fontsize=7)
    axes.set(xscale="log", xlabel="nonzero weights", ylabel="validation loss (nats a token)")
    axes.grid(alpha=0.25)
    if rows:
        axes.legend(frameon=False)
    save_figure(figure, path)
