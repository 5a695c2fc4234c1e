"""Prunes one model for many tasks, keeping every circuit as soon as it is there."""

import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path

from sparse_jax.ablation.applied import values_hash
from sparse_jax.ablation.values import ablation_values, check_corpus, load_means, save_means
from sparse_jax.circuits.gates import Gates
from sparse_jax.circuits.graph import Circuit, load_circuit
from sparse_jax.data.corpus import Corpus
from sparse_jax.inputs import InputError, require
from sparse_jax.models.model import Model
from sparse_jax.pruning.config import PruneConfig
from sparse_jax.pruning.prune import TaskBeyondModelError, TaskData, extract_circuit, same_length
from sparse_jax.runtime.provenance import provenance
from sparse_jax.trees import fingerprint


def prune_tasks(
    model: Model,
    corpus: Corpus | None,
    tasks: Sequence[TaskData],
    prune: PruneConfig,
    directory: str | os.PathLike | None,
    label: str = "prune",
    lanes: int = 1,
    edges: bool = False,
    leave_out: bool = True,
) -> list[Circuit | None]:
    """A circuit per task, written to `directory/<task>.json`; those that are there already are kept.

    A circuit is found again by what it is of: the model, the pairs, the settings and the ablation values.
    Where another one has the task's name already, its file is `<task>-<hash>.json`. lanes, edges: as in
    `extract_circuit`. What closed nodes carry (`ablation_values` of `corpus`) goes to `directory/means.npz`,
    or, where others lie there, to a file with a hash. Without a directory nothing is kept. None for a task
    that the full model cannot do, which is said; if not `leave_out`, TaskBeyondModelError is raised then.
    Raises InputError, before any pruning, if there is no task or `corpus` is not the model's.
    """
    directory = None if directory is None else Path(directory)
    require(len(tasks) > 0, "tasks", [], "at least one task")
    if corpus is not None:
        check_corpus(model, corpus)
    values = ablation_values(model, prune.ablation_sites, prune.mean_windows, prune.ablation, corpus)
    origin = {"weights": model.fingerprint, "values": values_hash(values), **provenance()}
    if directory is not None:
        _keep_values(values, directory, model.fingerprint)
    found: list[Circuit | None] = []
    # hashed before they are padded to one length: a task is the same in any company
    pairs = [one.fingerprint for one in tasks]
    for one, own in zip(same_length(tasks), pairs):
        settings = {**_plain(dataclasses.asdict(prune)), "lanes": lanes, "edges": edges}
        wanted = {name: origin[name] for name in ("weights", "values")} | {"pairs": own}
        identity = fingerprint({**wanted, "settings": repr(settings)})[:16]
        circuit = None if directory is None else _existing(directory, one.name, identity)
        if circuit is None:
            about = {**origin, "pairs": own, "identity": identity}
            try:
                circuit = extract_circuit(
                    model, one, values, prune, about, f"{label} {one.name}", lanes, edges
                )
            except TaskBeyondModelError as error:
                if not leave_out:
                    raise
                print(f"{one.name}: left out: {error}")
            if circuit is not None and directory is not None:
                circuit.save(_free_path(directory, one.name, identity))
        found.append(circuit)
    return found


def _existing(directory: Path, name: str, identity: str) -> Circuit | None:
    """The circuit with this identity, whichever of the task's files it is in."""
    for path in (directory / f"{name}.json", directory / f"{name}-{identity}.json"):
        if path.exists():
            circuit = load_circuit(path)
            if circuit.provenance.get("identity") == identity:
                return circuit
    return None


def _free_path(directory: Path, name: str, identity: str) -> Path:
    path = directory / f"{name}.json"
    return directory / f"{name}-{identity}.json" if path.exists() else path


def _keep_values(values: Gates, directory: Path, model: str) -> None:
    """Writes them beside the circuits, and over no others."""
    path = directory / "means.npz"
    if path.exists():
        try:
            if values_hash(load_means(path, model)) == values_hash(values):
                return
        except InputError:
            pass  # another model's, or no means at all: it stays
        path = directory / f"means-{values_hash(values)}.npz"
    save_means(values, path, model)


def _plain(value: object) -> object:
    """What JSON makes of it: tuples become lists."""
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, (list, tuple)) else value
