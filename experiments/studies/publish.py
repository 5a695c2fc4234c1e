"""Saves trained models, small enough for a repository, with their measurements."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from experiments.studies.pair import EQUAL, METRICS, unequal, validation_loss
from sparse_jax.ablation.score import TARGET, Row
from sparse_jax.files import json_lines, write_whole
from sparse_jax.models.compact import write_compact
from sparse_jax.models.model import Model


def publish(
    models: Mapping[str, Model],
    rows: Mapping[str, Mapping[str, Sequence[Row]]],
    workdirs: Mapping[str, Path],
    output: Path,
) -> str:
    """Writes every model and its rows of `measure_tasks` under `output`; returns the tables.

    `rows` are by split, then by model. `<name>/` is a compact model with its training metrics,
    `tasks.jsonl` has a line per split, model and task, `table.txt` shows the models' losses side by side.
    """
    for name, model in models.items():
        write_compact(model, output / name)
        write_whole(output / name / METRICS, (workdirs[name] / METRICS).read_text())
    found = [{"model": name, **row} for by_name in rows.values() for name in models for row in by_name[name]]
    write_whole(output / "tasks.jsonl", json_lines(found))
    validation = {name: validation_loss(workdirs[name]) for name in models}
    tables = "\n\n".join(format_models(by_name, validation) for by_name in rows.values())
    if said := unequal(validation):
        tables += f"\n\n{said}: more than {EQUAL:g} nats apart, so sizes of their circuits are not comparable"
    write_whole(output / "table.txt", tables + "\n")
    return tables


def format_models(rows: Mapping[str, Sequence[Row]], validation: Mapping[str, float]) -> str:
    """Loss (± standard error) and accuracy of every model on every task, then what they add up to."""
    first = next(iter(rows.values()))
    lines = [(f"task ({first[0]['split']} split)", [f"{name}: loss, accuracy" for name in rows])]
    for task in zip(*rows.values(), strict=True):
        cells = [f"{_with_error(row):>19}{100 * row['accuracy']:>7.1f} %" for row in task]
        lines.append((task[0]["task"], cells))
    for about, figure in (
        (f"tasks below {TARGET} nats", lambda name: f"{sum(r['loss'] < TARGET for r in rows[name])}"),
        ("greatest loss", lambda name: f"{max(row['loss'] for row in rows[name]):.3f}"),
        ("validation loss, nats a token", lambda name: f"{validation[name]:.4f}"),
    ):
        lines.append((about, [figure(name) for name in rows]))
    width = 1 + max(len(about) for about, _ in lines)
    table = [f"{about:<{width}}" + "".join(f"{cell:>28}" for cell in cells) for about, cells in lines]
    return "\n".join([*table, f"nats; chance is {math.log(2):.3f}"])


def _with_error(row: Row) -> str:
    error = row["loss_error"]
    return f"{row['loss']:.3f}" + ("" if error is None else f" ± {error:.3f}")
