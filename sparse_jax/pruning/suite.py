"""Prunes one model for many tasks, keeping every circuit as soon as it is there."""

import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path

from sparse_jax.ablation.values import ablation_values, check_corpus, save_means
from sparse_jax.circuits.graph import Circuit, load_circuit, save_circuit
from sparse_jax.data.corpus import Corpus
from sparse_jax.inputs import InputError, require
from sparse_jax.models.model import Model
from sparse_jax.pruning.config import PruneConfig
from sparse_jax.pruning.prune import TaskBeyondModelError, TaskData, extract_circuit, same_length
from sparse_jax.runtime.provenance import provenance


def prune_tasks(
    model: Model,
    corpus: Corpus | None,
    tasks: Sequence[TaskData],
    prune: PruneConfig,
    directory: str | os.PathLike,
    label: str = "prune",
) -> dict[str, Circuit]:
    """A circuit per task, written to `directory/<task>.json`; those that are there already are kept.

    What closed nodes carry (`ablation_values` of `corpus`) goes to `directory/means.npz`: circuits run with
    it. A task that the full model cannot do is said so and left out. Raises InputError,
    before any pruning, if there is no task, if `corpus` is not the model's, or if `directory` holds circuits
    of other weights or of another pruning config.
    """
    directory = Path(directory)
    require(len(tasks) > 0, "tasks", [], "at least one task")
    if corpus is not None:
        check_corpus(model, corpus)
    origin = {"weights": model.fingerprint, **provenance()}
    data = same_length(tasks)
    circuits = {one.name: _existing(directory / f"{one.name}.json", origin["weights"], prune) for one in data}
    if any(circuit is None for circuit in circuits.values()):
        means = ablation_values(model, prune.ablation_sites, prune.mean_windows, prune.ablation, corpus)
        save_means(means, directory / "means.npz", model.fingerprint)
    for one in data:
        if circuits[one.name] is not None:
            continue
        try:
            circuit = extract_circuit(model, one, means, prune, origin, f"{label} {one.name}")
        except TaskBeyondModelError as error:
            print(f"{one.name}: left out: {error}")
            continue
        save_circuit(circuit, directory / f"{one.name}.json")
        circuits[one.name] = circuit
    return {name: circuit for name, circuit in circuits.items() if circuit is not None}


def _existing(path: Path, weights: str, prune: PruneConfig) -> Circuit | None:
    if not path.exists():
        return None
    circuit = load_circuit(path)
    wanted = {"weights": weights, "pruning": _plain(dataclasses.asdict(prune))}
    for field, value in wanted.items():
        if circuit.provenance.get(field) != value:
            raise InputError(f"circuits: {path} was made with other {field}; valid: an empty directory")
    return circuit


def _plain(value: object) -> object:
    """What JSON makes of it: tuples become lists."""
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, (list, tuple)) else value
