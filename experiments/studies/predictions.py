"""How alike two models predict text: the losses of single tokens, and how far activations stand out."""

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.studies.figure import new_figure, save_figure
from sparse_jax.faithfulness.intervals import Interval, statistic_interval
from sparse_jax.files import json_lines, write_whole
from sparse_jax.inputs import InputError
from sparse_jax.model.forward import forward
from sparse_jax.model.hooks import Hooks
from sparse_jax.models.model import Model
from sparse_jax.sparsity.statistics import kurtosis

# Where excess kurtosis is measured, over all layers and channels.
SITES = ("attn_in", "q", "k", "v", "attn_out", "mlp_in", "mlp_neuron", "mlp_out", "final_resid")
# Windows of one call.
TOGETHER = 16


@dataclasses.dataclass(frozen=True)
class Predictions:
    """Of one model: the loss in nats of every token [W, T], and the excess kurtosis at each site."""

    losses_WxT: np.ndarray
    kurtosis: Mapping[str, float]


def predictions(model: Model, windows_WxT: np.ndarray) -> Predictions:
    """Runs a model on windows [W, T + 1] of tokens."""

    @functools.partial(jax.jit, static_argnames="capture")
    def run(params, tokens, capture):
        logits, found = forward(model.config, params, tokens[:, :-1], Hooks(capture=capture))
        return optax.softmax_cross_entropy_with_integer_labels(logits, tokens[:, 1:]), found

    batches = [windows_WxT[i : i + TOGETHER] for i in range(0, len(windows_WxT), TOGETHER)]
    losses = [run(model.params, batch, ())[0] for batch in batches]
    _, found = run(model.params, batches[0], SITES)
    return Predictions(
        np.concatenate([np.asarray(one, np.float64) for one in losses]),
        {site: _kurtosis(values) for site, values in found.items()},
    )


def _kurtosis(values: jax.Array) -> float:
    """Of [L, B, T, N], its mean over layers; of [B, T, N], that of the one place."""
    layers = values if values.ndim == 4 else values[None]
    return float(jnp.mean(jax.vmap(kurtosis)(layers)))


def require_comparable(first: Model, second: Model) -> None:
    """Raises InputError unless both models predict the same tokens of the same text."""
    if first.require_tokenizer().to_str() != second.require_tokenizer().to_str():
        raise InputError(f"tokenizers of {first.origin} and {second.origin} differ; valid: the same")
    if first.config.context != second.config.context:
        given = first.config.context, second.config.context
        raise InputError(f"model.context: {given} is not valid; valid: the same in both models")


def correlation(first_WxT: np.ndarray, second_WxT: np.ndarray) -> Interval:
    """The Pearson correlation of single tokens' losses, with a 95 % bootstrap interval over windows."""

    def pearson(means: np.ndarray) -> np.ndarray:
        x, y, xx, yy, xy = np.moveaxis(means, -1, 0)
        return (xy - x * y) / np.sqrt((xx - x**2) * (yy - y**2))

    x, y = first_WxT, second_WxT
    return statistic_interval(np.stack([x, y, x * x, y * y, x * y], -1).mean(axis=1), pearson)


def report_rows(found: Mapping[str, Predictions], models: Mapping[str, Model]) -> list[dict[str, Any]]:
    """A row per model, then one for their correlation."""
    rows: list[dict[str, Any]] = []
    for name, one in found.items():
        about = {"model": name, "weights": models[name].fingerprint, "windows": len(one.losses_WxT)}
        rows.append({**about, "loss": float(one.losses_WxT.mean()), "kurtosis": dict(one.kurtosis)})
    first, second = (one.losses_WxT for one in found.values())
    rows.append({"models": list(found), "correlation": correlation(first, second)._asdict()})
    return rows


def write_predictions(found: Mapping[str, Predictions], rows: Sequence[Mapping], directory: Path) -> str:
    """Writes rows.jsonl, table.md and losses.png to `directory`; returns the table."""
    write_whole(directory / "rows.jsonl", json_lines(rows))
    table = format_predictions(rows)
    write_whole(directory / "table.md", table)
    draw_losses(found, directory / "losses.png")
    return table


def format_predictions(rows: Sequence[Mapping]) -> str:
    """Markdown: losses, their correlation, excess kurtosis by site."""
    *models, last = rows
    found = last["correlation"]
    text = [
        "# How alike the pair predicts\n",
        f"Pearson correlation of the losses of single tokens, {models[0]['windows']} held-out windows: "
        f"{found['value']:.3f} [{found['low']:.3f}, {found['high']:.3f}]\n",
        "| |" + "".join(f" {row['model']} |" for row in models),
        "|---" * (1 + len(models)) + "|",
        "| loss, nats a token |" + "".join(f" {row['loss']:.3f} |" for row in models),
    ]
    for site in SITES:
        text.append(
            f"| excess kurtosis, {site} |" + "".join(f" {row['kurtosis'][site]:.1f} |" for row in models)
        )
    return "\n".join(text) + "\n"


def draw_losses(found: Mapping[str, Predictions], path: Path) -> None:
    """The losses of single tokens in one model against those in the other, counted in cells."""
    figure = new_figure()
    axes = figure.add_subplot()
    (first, one), (second, other) = found.items()
    counts = axes.hexbin(
        one.losses_WxT.ravel(), other.losses_WxT.ravel(), gridsize=60, bins="log", mincnt=1, cmap="Blues"
    )
    axes.axline((0, 0), (1, 1), color="gray", linewidth=1, linestyle="--")
    axes.set(xlabel=f"loss of a token, {first} (nats)", ylabel=f"loss of the same token, {second} (nats)")
    figure.colorbar(counts, label="tokens")
    save_figure(figure, path)
