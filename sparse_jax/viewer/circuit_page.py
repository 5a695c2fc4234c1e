"""An offline page made from circuits alone."""

import os
from collections.abc import Sequence

from sparse_jax.circuits.graph import Circuit
from sparse_jax.inputs import require
from sparse_jax.viewer.drawing import TaskCircuit
from sparse_jax.viewer.page import render, write_report
from sparse_jax.viewer.payload import gather


class Page:
    """A page that a notebook displays; `text` is its HTML."""

    def __init__(self, text: str):
        self.text = text

    def _repr_html_(self) -> str:
        quoted = self.text.replace("&", "&amp;").replace('"', "&quot;")
        return f'<iframe srcdoc="{quoted}" width="100%" height="720" style="border:0"></iframe>'

    def __repr__(self) -> str:
        return f"Page({len(self.text):,} characters; shown in a notebook)"


def report(circuits: Circuit | Sequence[Circuit], path: str | os.PathLike) -> None:
    """Writes an offline HTML page of the circuits to `path`, atomically.

    Circuits of weight-sparse and of dense models are shown side by side, task by task. Raises InputError if
    there is no circuit, or if there are two of the same task and kind of model.
    """
    write_report(path, _payload(circuits))


def view(circuit: Circuit) -> Page:
    """The page of one circuit, for display in a notebook."""
    return Page(render(_payload(circuit)))


def _payload(circuits: Circuit | Sequence[Circuit]) -> dict[str, object]:
    circuits = [circuits] if isinstance(circuits, Circuit) else list(circuits)
    require(len(circuits) > 0, "circuits", [], "at least one circuit")
    entries = [TaskCircuit(str(one.provenance.get("task", "task")), _kind(one), one) for one in circuits]
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
