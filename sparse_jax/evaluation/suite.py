"""Prunes one model for many tasks, keeping every circuit as soon as it is there."""

import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from sparse_jax.circuits.graph import Circuit, load_circuit, save_circuit
from sparse_jax.data.corpus import Corpus
from sparse_jax.data.loader import validation_windows
from sparse_jax.evaluation.extraction import TaskBeyondModelError, extract_circuit, same_length, task_data
from sparse_jax.evaluation.provenance import provenance
from sparse_jax.inputs import InputError
from sparse_jax.pruning.config import PruneConfig
from sparse_jax.pruning.means import node_means
from sparse_jax.tasks.task import Task
from sparse_jax.training.pretrained import Pretrained


def prune_tasks(
    pretrained: Pretrained,
    corpus: Corpus,
    tasks: Sequence[Task],
    prune: PruneConfig,
    directory: str | os.PathLike,
    label: str = "prune",
) -> dict[str, Circuit]:
    """A circuit per task, written to `directory/<task>.json`; those that are there already are kept.

    A task that the whole model cannot do is said so and left out. Raises InputError, before any
    pruning, if a task does not fit the model's tokenizer or context, or if `directory` holds circuits
    of another model or another pruning config.
    """
    directory = Path(directory)
    data = same_length([task_data(task, pretrained, prune) for task in tasks])
    circuits = {one.name: _existing(directory / f"{one.name}.json", pretrained, prune) for one in data}
    means = None
    for one in data:
        if circuits[one.name] is not None:
            continue
        if means is None:
            windows = training_windows(corpus, prune.mean_windows, pretrained.config.context)
            means = node_means(pretrained.config, pretrained.params, windows)
        try:
            circuit = extract_circuit(pretrained, one, means, prune, provenance(), f"{label} {one.name}")
        except TaskBeyondModelError as error:
            print(f"{one.name}: left out: {error}")
            continue
        save_circuit(circuit, directory / f"{one.name}.json")
        circuits[one.name] = circuit
    return {name: circuit for name, circuit in circuits.items() if circuit is not None}


def training_windows(corpus: Corpus, count: int, context: int) -> np.ndarray:
    """About `count` windows [W, T] of training text, from each source in proportion to its weight."""
    total = sum(corpus.weights.values())
    parts = []
    for name, source in corpus.sources.items():
        share = round(count * corpus.weights[name] / total)
        if share:
            parts.append(validation_windows(source.train, share, context)[:, :-1])
    return np.concatenate(parts)


def _existing(path: Path, pretrained: Pretrained, prune: PruneConfig) -> Circuit | None:
    if not path.exists():
        return None
    circuit = load_circuit(path)
    wanted = {"model": pretrained.origin, "pruning": _plain(dataclasses.asdict(prune))}
    for field, value in wanted.items():
        if circuit.provenance[field] != value:
            raise InputError(f"circuits: {path} was made with another {field}; valid: an empty directory")
    return circuit


def _plain(value: object) -> object:
    """What JSON makes of it: tuples become lists."""
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, (list, tuple)) else value
