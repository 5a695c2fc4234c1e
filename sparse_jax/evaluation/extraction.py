"""Prunes one model for one task and gathers everything that is known of the circuit."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import jax
import numpy as np
from tokenizers import Tokenizer

from sparse_jax.circuits.edges import find_edges, kept_nodes, other_counts
from sparse_jax.circuits.graph import Circuit
from sparse_jax.inputs import InputError
from sparse_jax.pruning.calibrate import calibrate
from sparse_jax.pruning.config import PruneConfig
from sparse_jax.pruning.discretize import Discretized, discretize
from sparse_jax.pruning.gates import Gates
from sparse_jax.pruning.objective import last_logits
from sparse_jax.pruning.search import lanes, optimize_gates
from sparse_jax.tasks.encode import EncodedPairs
from sparse_jax.tasks.metrics import LOSSES
from sparse_jax.tasks.task import Task
from sparse_jax.training.pretrained import Pretrained

SPLITS = ("train", "validation", "test")


class TaskBeyondModelError(InputError):
    """The whole model misses the target loss, so no circuit of it can be judged by that target."""


class TaskData(NamedTuple):
    """A task's encoded pairs: gates are trained on `train`, chosen on `validation`, judged on `test`."""

    name: str
    train: EncodedPairs
    validation: EncodedPairs
    test: EncodedPairs


def task_data(task: Task, tokenizer: Tokenizer, context: int, prune: PruneConfig) -> TaskData:
    """Encodes a task's splits, all padded to the same length.

    Raises InputError if a completion is not one token or a prompt does not fit the context.
    """
    counts = (prune.train_pairs, prune.validation_pairs, prune.test_pairs)
    encoded = [
        task.encode(split, count, prune.seed, tokenizer, context) for split, count in zip(SPLITS, counts)
    ]
    length = max(pairs.tokens.shape[-1] for pairs in encoded)
    return TaskData(task.name, *(_pad(pairs, length) for pairs in encoded))


def _pad(pairs: EncodedPairs, length: int) -> EncodedPairs:
    missing = length - pairs.tokens.shape[-1]
    return pairs._replace(tokens=np.pad(pairs.tokens, ((0, 0), (0, 0), (0, missing))))


def same_length(data: Sequence[TaskData]) -> list[TaskData]:
    """Pads all tasks to the longest, so that one compiled program serves them all."""
    length = max(one.test.tokens.shape[-1] for one in data)
    return [TaskData(one.name, *(_pad(pairs, length) for pairs in one[1:])) for one in data]


def task_loss(
    pretrained: Pretrained, pairs: EncodedPairs, gates: Gates, fills: Gates, objective: str = "binary"
) -> float:
    """Mean loss in nats on `pairs`; no gates at all give the unpruned model's."""
    logits = _logits(pretrained, pairs, gates, fills)
    return float(LOSSES[objective](logits, pairs.candidates).mean())


def extract_circuit(
    pretrained: Pretrained,
    data: TaskData,
    means: Gates,
    prune: PruneConfig,
    provenance: Mapping[str, object],
    label: str = "",
) -> Circuit:
    """Optimizes gates, discretizes, calibrates, and measures on the test split.

    The circuit's `losses`: "unpruned" and "circuit" (test split), "validation" (what the size was
    chosen by), "calibrated" (test split, after the fit), "target"; its provenance says whether the
    target was reached. Raises TaskBeyondModelError if the unpruned model itself misses the target.
    """
    unpruned = task_loss(pretrained, data.validation, {}, {}, prune.objective)
    if unpruned > prune.target_loss:
        raise TaskBeyondModelError(
            f"pruning.target_loss: {prune.target_loss} is below the loss {unpruned:.3f} of the whole model "
            f"on {data.name}; valid: a target above it, or a task that the model can do"
        )
    hyper, seeds = lanes(prune, 1)
    logits, history = optimize_gates(
        pretrained.config, prune, pretrained.params, means, data.train, hyper, seeds, label
    )
    logits = {site: tau[0] for site, tau in logits.items()}
    found = discretize(
        pretrained.config,
        pretrained.params,
        means,
        logits,
        data.validation,
        prune.target_loss,
        prune.objective,
    )
    losses, calibration = _measure(pretrained, data, means, found, prune)
    provenance = {
        **provenance,
        "optimized_nodes": int(history["nodes"][0, -1]),
        "optimized_loss": float(history["loss"][0, -1]),
    }
    return _circuit(pretrained, data.name, means, logits, found, losses, calibration, prune, provenance)


def _logits(pretrained: Pretrained, pairs: EncodedPairs, gates: Gates, fills: Gates) -> jax.Array:
    return _last_logits(pretrained.config, pretrained.params, gates, fills, pairs)


_last_logits = jax.jit(last_logits, static_argnums=0)


def _measure(
    pretrained: Pretrained, data: TaskData, means: Gates, found: Discretized, prune: PruneConfig
) -> tuple[dict[str, float], dict[str, object]]:
    loss = LOSSES[prune.objective]
    # the training pairs are many: the few that the size was chosen by would be fitted too well
    fit_logits = _logits(pretrained, data.train, found.gates, means)
    calibration = calibrate(fit_logits, data.train.candidates, prune.calibration_steps, prune.objective)
    test_logits = _logits(pretrained, data.test, found.gates, means)
    losses = {
        "target": prune.target_loss,
        "unpruned": task_loss(pretrained, data.test, {}, {}, prune.objective),
        "validation": found.loss,
        "circuit": float(loss(test_logits, data.test.candidates).mean()),
        "calibrated": float(loss(calibration.apply(test_logits), data.test.candidates).mean()),
    }
    return losses, calibration.to_json()


def _circuit(
    pretrained: Pretrained,
    task: str,
    means: Gates,
    logits: Gates,
    found: Discretized,
    losses: dict[str, float],
    calibration: dict[str, object],
    prune: PruneConfig,
    provenance: dict[str, object],
) -> Circuit:
    host = jax.device_get((means, logits))
    nodes = kept_nodes(found.gates, *host, pretrained.config.n_layers)
    edges = find_edges(pretrained.config, pretrained.params, nodes)
    others = other_counts(pretrained.config, pretrained.params, nodes)
    return Circuit(
        nodes=nodes,
        edges=edges,
        sites=prune.sites,
        counts={"nodes": len(nodes), "edges": len(edges), **others},
        losses=losses,
        calibration=calibration,
        provenance={
            "model": pretrained.origin,
            "task": task,
            "reached": found.reached,
            "pruning": dataclasses.asdict(prune),
            "config": dataclasses.asdict(pretrained.run),
            **provenance,
        },
    )
