"""An offline page made from circuits alone."""

import os
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from sparse_jax.circuits.graph import Circuit
from sparse_jax.inputs import require
from sparse_jax.viewer.drawing import TaskCircuit
from sparse_jax.viewer.page import render, write_report
from sparse_jax.viewer.payload import gather


class Measured(Protocol):
    """A scorecard, as `sj.scorecard` gives it."""

    def to_json(self) -> Mapping[str, Any]:
        """All figures, and the verdict."""


class Page:
    """A page that a notebook displays; `text` is its HTML."""

    def __init__(self, text: str):
        self.text = text

    def _repr_html_(self) -> str:
        quoted = self.text.replace("&", "&amp;").replace('"', "&quot;")
        return f'<iframe srcdoc="{quoted}" width="100%" height="720" style="border:0"></iframe>'

    def __repr__(self) -> str:
        return f"Page({len(self.text):,} characters; shown in a notebook)"


def report(
    circuits: Circuit | Sequence[Circuit],
    path: str | os.PathLike,
    scorecards: Measured | Sequence[Measured] = (),
) -> None:
    """Writes an offline HTML page of the circuits to `path`, atomically.

    Circuits of weight-sparse and of dense models are shown side by side, task by task. scorecards: none, or
    that of each circuit, whose verdict and figures are shown below it. Raises InputError if there is no
    circuit, if there are two of the same task and kind of model, and for a scorecard of another task.
    """
    write_report(path, payload_of(circuits, scorecards))


def view(circuit: Circuit, scorecard: Measured | None = None) -> Page:
    """The page of one circuit, perhaps with its scorecard, for display in a notebook."""
    return Page(render(payload_of(circuit, () if scorecard is None else scorecard)))


def payload_of(
    circuits: Circuit | Sequence[Circuit], scorecards: Measured | Sequence[Measured] = ()
) -> dict[str, object]:
    """What is on the page. Raises InputError as `report` does."""
    circuits = [circuits] if isinstance(circuits, Circuit) else list(circuits)
    require(len(circuits) > 0, "circuits", [], "at least one circuit")
    cards = list(scorecards) if isinstance(scorecards, Sequence) else [scorecards]
    valid = f"none, or one for each of {len(circuits)} circuits"
    require(len(cards) in (0, len(circuits)), "scorecards", len(cards), valid)
    entries = []
    for number, one in enumerate(circuits):
        card = cards[number].to_json() if cards else None
        task = str(one.provenance.get("task", "task" if card is None else card["task"]))
        if card is not None:
            require(card["task"] == task, f"scorecards[{number}]", card["task"], f"that of {task!r}")
        entries.append(TaskCircuit(task, _kind(one), one, scorecard=card))
    tasks = list(dict.fromkeys(entry.task for entry in entries))
    rows = []
    for task in tasks:
        sides = {entry.model: _measures(entry.circuit) for entry in entries if entry.task == task}
        rows.append({"task": task, **sides})
    targets = [one.losses["target"] for one in circuits if "target" in one.losses]
    models = sorted({str(one.provenance.get("model", "unknown")) for one in circuits})
    table = {"rows": rows, "mean": None, "tasks": []}
    return gather("Circuits", {"models": ", ".join(models)}, max(targets, default=None), table, {}, entries)


def _kind(circuit: Circuit) -> str:
    if "kind" in circuit.provenance:  # a released circuit, which has no config
        return str(circuit.provenance["kind"])
    sparsity = circuit.provenance.get("config", {}).get("sparsity", {})
    is_dense = sparsity.get("fraction", 1.0) == 1.0 and not sparsity.get("rules")
    return "dense" if is_dense else "sparse"


def _measures(circuit: Circuit) -> dict[str, object]:
    losses = {name: circuit.losses.get(name) for name in ("unpruned", "circuit", "calibrated")}
    sizes = {"nodes": len(circuit.nodes), "edges": len(circuit.edges)}
    return {**losses, **sizes, "reached": bool(circuit.provenance.get("reached", True))}
