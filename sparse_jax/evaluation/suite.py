"""Prunes one model for many tasks, keeping every circuit as soon as it is there."""

import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from sparse_jax.circuits.graph import Circuit, load_circuit, save_circuit
from sparse_jax.data.corpus import Corpus
from sparse_jax.data.loader import validation_windows
from sparse_jax.evaluation.extraction import TaskBeyondModelError, TaskData, extract_circuit, same_length
from sparse_jax.evaluation.provenance import provenance, weights_hash
from sparse_jax.inputs import InputError, require
from sparse_jax.pruning.config import PruneConfig
from sparse_jax.pruning.means import node_means, save_means
from sparse_jax.training.pretrained import Pretrained


def prune_tasks(
    pretrained: Pretrained,
    corpus: Corpus,
    tasks: Sequence[TaskData],
    prune: PruneConfig,
    directory: str | os.PathLike,
    label: str = "prune",
) -> dict[str, Circuit]:
    """A circuit per task, written to `directory/<task>.json`; those that are there already are kept.

    What closed nodes are held at, their means (0 if `prune.fill` is "zero"), goes to `directory/means.npz`:
    circuits run with these fills. A task that the whole model cannot do is said so and left out. Raises
    InputError, before any pruning, if there is no task, if `corpus` is not the model's, or if `directory`
    holds circuits of other weights or of another pruning config.
    """
    directory = Path(directory)
    require(len(tasks) > 0, "tasks", [], "at least one task")
    _check_corpus(pretrained, corpus)
    origin = {"weights": weights_hash(pretrained.params), **provenance()}
    data = same_length(tasks)
    circuits = {one.name: _existing(directory / f"{one.name}.json", origin["weights"], prune) for one in data}
    if any(circuit is None for circuit in circuits.values()):
        windows = training_windows(corpus, prune.mean_windows, pretrained.config.context)
        means = node_means(pretrained.config, pretrained.params, windows)
        if prune.fill == "zero":
            means = {site: 0 * mean for site, mean in means.items()}
        save_means(means, directory / "means.npz")
    for one in data:
        if circuits[one.name] is not None:
            continue
        try:
            circuit = extract_circuit(pretrained, one, means, prune, origin, f"{label} {one.name}")
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
        if corpus.weights[name] > 0:
            share = max(1, round(count * corpus.weights[name] / total))
            parts.append(validation_windows(source.train, share, context)[:, :-1])
    return np.concatenate(parts)


def _check_corpus(pretrained: Pretrained, corpus: Corpus) -> None:
    if corpus.tokenizer.to_str() != pretrained.tokenizer.to_str():
        raise InputError(
            f"data: the text of {pretrained.origin} has changed since: its tokenizer is another now; "
            "valid: the data that the model was trained on"
        )


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
