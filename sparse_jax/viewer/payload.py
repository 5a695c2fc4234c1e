"""Gathers the content of the report as plain data for JSON."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from sparse_jax.inputs import InputError, nearest, require_choice
from sparse_jax.viewer.drawing import TaskCircuit, drawings
from sparse_jax.viewer.plain import lines, number

FORMAT = "sparse_jax.report"
VERSION = 1
CHANCE = math.log(2)

MODELS = ("sparse", "dense")
MEASURES = ("unpruned", "validation", "circuit", "calibrated", "nodes", "edges", "reached")

# The fields of a metric row that are drawn; every validation source has its own curve.
STEP, TRAIN, FRACTION, VALIDATION = "step", "loss", "fraction_kept", "validation/"
POINT_LIMIT = 1000

Row = Mapping[str, Any]


def gather(
    title: str,
    provenance: Mapping[str, object],
    target: float | None,
    table: Mapping[str, Any],
    runs: Mapping[str, Sequence[Row]],
    circuits: Sequence[TaskCircuit],
) -> dict[str, object]:
    """Everything `page.write_report` needs.

    provenance: label -> value, nested or not. target: the task loss in nats that circuits had to reach.
    table: see `comparison`. runs: name -> metric rows in order of steps, see `curves`. circuits: those to
    draw, see `drawing.drawings`. None and non-finite numbers are shown as missing values.

    Raises InputError for an unknown field, or a required field that is missing.
    """
    return {
        "format": FORMAT,
        "version": VERSION,
        "title": title,
        "provenance": lines(provenance),
        "target": number(target),
        "chance": CHANCE,
        "table": comparison(**table),
        "runs": [{"name": name, "curves": curves(name, metrics)} for name, metrics in runs.items()],
        **drawings(circuits),
    }


def comparison(rows: Sequence[Row], mean: Row | None, tasks: Sequence[str]) -> dict[str, object]:
    """The table: a row per task, and the mean over `tasks` (METHOD 7) as computed by the caller.

    A row, and `mean`, is {"task": name, "sparse": measures, "dense": measures, "ratio": dense over sparse
    edges}; measures are any of "unpruned", "validation", "circuit" and "calibrated" (task losses in nats; all
    but the second on test pairs), "nodes" and "edges" (counts) and "reached" (whether the circuit reached the
    target on validation pairs). Others show as missing.
    """
    table = [_compared(row) for row in rows]
    names = [row["task"] for row in table]
    for name in names:
        if names.count(name) > 1:
            raise InputError(f"table.task: {name!r} appears twice; valid: one row per task")
    return {"rows": table, "mean": {**_compared(mean or {"task": "mean"}), "tasks": list(tasks)}}


def curves(name: str, metrics: Sequence[Row]) -> list[dict[str, object]]:
    """The drawn curves of one run, each {"kind", "source", "points": [[step, value], ...]}.

    A metric row is {"step": ..} with any of "loss", "fraction_kept" (of the weights) and
    "validation/<source>"; other fields are ignored. A long curve is thinned to evenly spread points, with
    the first and the last.
    """
    if any(STEP not in row for row in metrics):
        raise InputError(f"runs[{name!r}]: a metric row has no {STEP!r}; valid: a step in every row")
    fields = dict.fromkeys(field for row in metrics for field in row)
    kinds = [(field, *kind) for field in fields if (kind := _kind(field))]
    if not kinds:
        drawn = f"{TRAIN}, {FRACTION}, {VALIDATION}<source>"
        raise InputError(f"runs[{name!r}]: fields {', '.join(fields)}; valid: at least one of {drawn}")
    found: list[dict[str, object]] = []
    for field, what, source in kinds:
        points = [[row[STEP], number(row[field])] for row in metrics if field in row]
        found.append({"kind": what, "source": source, "points": _thinned(points)})
    return found


def _compared(row: Row) -> dict[str, object]:
    if "task" not in row:
        raise InputError("table.task: missing; it has no default")
    for field in row:
        require_choice(f"table[{row['task']!r}]", field, ("task", *MODELS, "ratio"))
    measured = {model: _measures(row, model) for model in MODELS}
    return {"task": row["task"], **measured, "ratio": number(row.get("ratio"))}


def _measures(row: Row, model: str) -> dict[str, object]:
    given = row.get(model) or {}
    for field in given:
        if field not in MEASURES:
            raise InputError(f"table[{row['task']!r}].{model}.{field}: unknown; {nearest(field, MEASURES)}")
    return {field: number(given.get(field)) for field in MEASURES}


def _kind(field: str) -> tuple[str, str] | None:
    if field == TRAIN:
        return "train", ""
    if field == FRACTION:
        return "fraction", ""
    if field.startswith(VALIDATION):
        return "validation", field.removeprefix(VALIDATION)
    return None


def _thinned(points: list) -> list:
    stride = -(-len(points) // POINT_LIMIT)
    return points if stride <= 1 else points[:-1:stride] + points[-1:]
