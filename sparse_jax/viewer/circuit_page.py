"""An offline page made from circuits alone."""

import os
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from sparse_jax.circuits.graph import Circuit
from sparse_jax.inputs import InputError, require
from sparse_jax.tasks.task_data import Counts
from sparse_jax.viewer.drawing import TaskCircuit
from sparse_jax.viewer.page import render, write_report
from sparse_jax.viewer.payload import gather


class Measured(Protocol):
    """What is found about a circuit: a scorecard, meanings, traces, contributions or prunings."""

    def to_json(self) -> Mapping[str, Any]:
        """All of it, with the "task" and, as "of", the fingerprint of the circuit."""


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
    meanings: Measured | Sequence[Measured] = (),
    code: str | Sequence[str] = (),
    traces: Measured | Sequence[Measured] = (),
    contributions: Measured | Sequence[Measured] = (),
    prunings: Measured | Sequence[Measured] = (),
) -> None:
    """Writes an offline HTML page of the circuits to `path`, atomically.

    Circuits of weight-sparse and of dense models are shown side by side, task by task. Several of one task
    and kind of model are told apart by what they were pruned with ("sparse, seed 1"), else by number; the
    table has the first of them.

    Everything else is none, or one for each circuit (None where there is none); `sj.findings` has all of it.
    scorecards: their verdict and figures are shown above the picture. meanings: from `sj.explain`, shown
    beside a node that is pointed at. code: from `circuit.code`. traces: from `sj.trace`, what nodes carry and
    where heads look. contributions: from `sj.contributions`, the loss against the number of nodes, and
    without each. prunings: from `sj.prunings`, all of the search that found it.

    Raises InputError if there is no circuit, for what belongs to another circuit or task, and for two tasks
    of one name.

    >>> import pathlib, tempfile
    >>> import sparse_jax as sj
    >>> folder = "experiments/results/faithfulness/circuits/sparse/mean"
    >>> circuits = [sj.load_circuit(f"{folder}/{task}.json") for task in ("for_while", "else_elif")]
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     sj.report(circuits, f"{folder}/report.html")
    ...     "else_elif" in pathlib.Path(f"{folder}/report.html").read_text()
    True
    """
    found = (scorecards, meanings, code, traces, contributions, prunings)
    write_report(path, payload_of(circuits, *found))


def view(
    circuit: Circuit,
    scorecard: Measured | None = None,
    meanings: Measured | None = None,
    code: str | None = None,
    traces: Measured | None = None,
    contributions: Measured | None = None,
    prunings: Measured | None = None,
) -> Page:
    """The page of one circuit, perhaps with what was found about it, to show in a notebook.

    For what, see `report`; with all of it: `sj.view(circuit, **sj.findings(model, circuit, task))`. Raises
    InputError for what is no circuit, and for what belongs to another circuit or task.

    >>> import sparse_jax as sj
    >>> path = "experiments/results/faithfulness/circuits/sparse/mean/single_double_quote.json"
    >>> sj.view(sj.load_circuit(path))
    Page(... characters; shown in a notebook)
    """
    found: tuple[Any, ...] = (scorecard, meanings, code, traces, contributions, prunings)
    return Page(render(payload_of(circuit, *(() if one is None else one for one in found))))


def payload_of(
    circuits: Circuit | Sequence[Circuit],
    scorecards: Measured | Sequence[Measured] = (),
    meanings: Measured | Sequence[Measured] = (),
    code: str | Sequence[str] = (),
    traces: Measured | Sequence[Measured] = (),
    contributions: Measured | Sequence[Measured] = (),
    prunings: Measured | Sequence[Measured] = (),
) -> dict[str, object]:
    """What is on the page. Raises InputError as `report` does."""
    # a text, which is no circuit, is a sequence too
    circuits = [circuits] if isinstance(circuits, str) or not isinstance(circuits, Sequence) else [*circuits]
    require(len(circuits) > 0, "circuits", [], "at least one circuit")
    for one in circuits:
        require(isinstance(one, Circuit), "circuits", one, "circuits")
    _require_tasks_with_names_of_their_own(circuits)
    given = {"scorecards": scorecards, "meanings": meanings, "traces": traces}
    given |= {"contributions": contributions, "prunings": prunings}
    measured = {field: _of_each(found, field, len(circuits)) for field, found in given.items()}
    texts = _each(code, "code", len(circuits))
    labels, entries = _labels(circuits), []
    for number, one in enumerate(circuits):
        found: dict[str, Any] = {field: of_each[number] for field, of_each in measured.items()}
        card = found["scorecards"]
        told = [of_circuit["task"] for of_circuit in found.values() if of_circuit is not None]
        task = str(one.provenance.get("task", told[0] if told else "task"))
        for field, of_circuit in found.items():
            if of_circuit is not None:
                found_task, of = of_circuit["task"], of_circuit["of"]
                require(found_task == task, f"{field}[{number}]", found_task, f"that of {task!r}")
                valid = f"what is of circuits[{number}], {one.fingerprint}"
                require(of == one.fingerprint, f"{field}[{number}]", f"of circuit {of}", valid)
        del found["scorecards"]
        entries.append(TaskCircuit(task, labels[number], one, scorecard=card, code=texts[number], **found))
    tasks = list(dict.fromkeys(entry.task for entry in entries))
    rows = []
    for task in tasks:
        of_task = [entry.circuit for entry in entries if entry.task == task]
        sides = {_kind(one): _measures(one) for one in reversed(of_task)}
        rows.append({"task": task, **sides, "ratio": _ratio(**sides)})
    targets = [target for one in circuits if (target := one.losses.get("target")) is not None]
    models = sorted({str(one.provenance.get("model", "unknown")) for one in circuits})
    table = {"rows": rows, "mean": None, "tasks": []}
    return gather("Circuits", {"models": ", ".join(models)}, max(targets, default=None), table, {}, entries)


def _each(given: Any, field: str, count: int) -> list[Any]:
    """One for each of `count` circuits, each None if nothing is given."""
    found = list(given) if isinstance(given, Sequence) and not isinstance(given, str) else [given]
    require(len(found) in (0, count), field, len(found), f"none, or one for each of {count} circuits")
    return found or [None] * count


def _of_each(given: Measured | Sequence[Measured], field: str, count: int) -> list[Mapping[str, Any] | None]:
    found = [None if one is None else one.to_json() for one in _each(given, field, count)]
    for one in found:
        require(one is None or isinstance(one, Mapping), field, given, "what sj.findings gives")
    return found


def _require_tasks_with_names_of_their_own(circuits: Sequence[Circuit]) -> None:
    """A page calls tasks by their names, so two of one name would share a row and a picture.

    Which pairs a task has depends on the tokenizer and on how many were drawn, so this compares circuits that
    were found with the same of both.
    """
    first: dict[object, tuple[int, str]] = {}
    for number, one in enumerate(circuits):
        about = one.provenance
        if not {"task", "weights", "pairs", "pruning"} <= set(about):
            continue
        alike = about["task"], about["weights"], Counts.of(about["pruning"])
        before, pairs = first.setdefault(alike, (number, about["pairs"]))
        if about["pairs"] != pairs:
            raise InputError(
                f"circuits[{number}]: its task {about['task']!r} has other pairs than that of "
                f"circuits[{before}]; valid: tasks with names of their own"
            )


def _kind(circuit: Circuit) -> str:
    if "kind" in circuit.provenance:
        return str(circuit.provenance["kind"])
    # older circuits have the config of their model's training run alone
    sparsity = circuit.provenance.get("config", {}).get("sparsity", {})
    is_dense = sparsity.get("fraction", 1.0) == 1.0 and not sparsity.get("rules")
    return "dense" if is_dense else "sparse"


def _labels(circuits: Sequence[Circuit]) -> list[str]:
    """The kind of each circuit's model and, if the task has more of that kind, what tells it apart."""
    found = []
    for one in circuits:
        group = [other for other in circuits if other.task == one.task and _kind(other) == _kind(one)]
        if len(group) == 1:
            found.append(_kind(one))
            continue
        facts = [_told_apart_by(other) for other in group]
        telling = [name for name in facts[0] if len({str(each.get(name)) for each in facts}) == len(group)]
        number = next(i for i, other in enumerate(group) if other is one)
        name = telling[0] if telling else "number"
        value = facts[number].get(name, "unknown") if telling else number + 1
        found.append(f"{_kind(one)}, {name.replace('_', ' ')} {value}")
    return found


def _told_apart_by(circuit: Circuit) -> dict[str, object]:
    """What may differ between two circuits of a task: first what people vary, then other settings."""
    pruning = dict(circuit.provenance.get("pruning", {}))
    first = {name: pruning[name] for name in ("target_loss", "seed", "ablation") if name in pruning}
    return {**first, "model": circuit.provenance.get("model"), **pruning}


def _ratio(sparse: Mapping[str, Any] | None = None, dense: Mapping[str, Any] | None = None) -> float | None:
    """Dense edges per sparse edge; None without both, or if one misses its target or has no edges."""
    sides = [side for side in (sparse, dense) if side and side["reached"] is not False and side["edges"]]
    return sides[1]["edges"] / sides[0]["edges"] if len(sides) == 2 else None


def _measures(circuit: Circuit) -> dict[str, Any]:
    names = ("unpruned", "validation", "circuit", "calibrated")
    losses = {name: circuit.losses.get(name) for name in names}
    sizes = {"nodes": len(circuit.nodes), "edges": len(circuit.edges)}
    return {**losses, **sizes, "reached": circuit.provenance.get("reached")}
