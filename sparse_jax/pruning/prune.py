"""Prunes one model for one task and gathers everything that is known of the circuit."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import jax
import numpy as np
from tokenizers import Tokenizer

from sparse_jax.ablation.judge import Judge
from sparse_jax.circuits.calibration import calibrate
from sparse_jax.circuits.edges import find_edges, kept_nodes, other_counts
from sparse_jax.circuits.gates import Gates
from sparse_jax.circuits.graph import Circuit
from sparse_jax.inputs import InputError
from sparse_jax.model import sites
from sparse_jax.model.config import ModelConfig
from sparse_jax.models.model import Model
from sparse_jax.pruning.config import PruneConfig
from sparse_jax.pruning.lanes import make_lanes, optimize_gates
from sparse_jax.pruning.reduce import Reduced, reduce_edges, reduce_nodes, working_lanes
from sparse_jax.tasks.controls import ControlTask
from sparse_jax.tasks.encode import EncodedPairs
from sparse_jax.tasks.metrics import LOSSES, summarize
from sparse_jax.tasks.task import Task
from sparse_jax.trees import fingerprint

SPLITS = ("train", "validation", "test")


class TaskBeyondModelError(InputError):
    """The full model misses the target loss, so no circuit of it can be judged by that target."""


class TaskData(NamedTuple):
    """A task's encoded pairs: gates are trained on `train`, chosen on `validation`, judged on `test`."""

    name: str
    train: EncodedPairs
    validation: EncodedPairs
    test: EncodedPairs
    is_control: bool = False

    @property
    def splits(self) -> tuple[EncodedPairs, ...]:
        """The three of them."""
        return self.train, self.validation, self.test

    @property
    def fingerprint(self) -> str:
        """A hash of all pairs: two tasks of one name are two tasks."""
        return fingerprint(*self.splits)


def task_data(task: Task, tokenizer: Tokenizer, context: int, prune: PruneConfig) -> TaskData:
    """Encodes a task's splits, all padded to the same length.

    Raises InputError if a completion is not one token, a prompt does not fit the context, or the task has
    fewer pairs.
    """
    counts = (prune.train_pairs, prune.validation_pairs, prune.test_pairs)
    encoded = [
        task.encode(split, count, prune.seed, tokenizer, context) for split, count in zip(SPLITS, counts)
    ]
    length = max(pairs.tokens.shape[-1] for pairs in encoded)
    padded = (_pad(pairs, length) for pairs in encoded)
    return TaskData(task.name, *padded, is_control=isinstance(task, ControlTask))


def _pad(pairs: EncodedPairs, length: int) -> EncodedPairs:
    missing = length - pairs.tokens.shape[-1]
    return pairs._replace(tokens=np.pad(pairs.tokens, ((0, 0), (0, 0), (0, missing))))


def same_length(data: Sequence[TaskData]) -> list[TaskData]:
    """Pads all tasks to the longest, so that one compiled program serves them all."""
    length = max(one.test.tokens.shape[-1] for one in data)
    return [
        TaskData(one.name, *(_pad(pairs, length) for pairs in one.splits), is_control=one.is_control)
        for one in data
    ]


def judge_on(model: Model, pairs: EncodedPairs, means: Gates, prune: PruneConfig) -> Judge:
    """What circuits of the model are judged by on these pairs; closed nodes are ablated to `means`."""
    model = model.config, model.params
    return Judge(*model, means, pairs, prune.judged_by, prune.frozen_norms)


def task_loss(
    model: Model, pairs: EncodedPairs, gates: Gates, ablated: Gates, objective: str = "binary"
) -> float:
    """Mean loss in nats on `pairs`; no gates at all give the unpruned model's."""
    return float(Judge(model.config, model.params, ablated, pairs, objective).losses(gates).mean())


def require_ability(model: Model, data: TaskData, prune: PruneConfig) -> None:
    """Raises TaskBeyondModelError if the unpruned model misses the target loss on the validation split."""
    unpruned = task_loss(model, data.validation, {}, {}, prune.judged_by)
    if not unpruned <= prune.target_loss:
        raise TaskBeyondModelError(
            f"pruning.target_loss: {prune.target_loss} is below the loss {unpruned:.3f} of the full model "
            f"on {data.name}; valid: a target above it, or a task that the model can do"
        )


def extract_circuit(
    model: Model,
    data: TaskData,
    means: Gates,
    prune: PruneConfig,
    provenance: Mapping[str, object],
    label: str = "",
    lanes: int = 1,
    edges: bool = False,
) -> Circuit:
    """Optimizes the gates of nodes, discretizes, eliminates, and measures on the test split.

    lanes: from so many seeds, of which the smallest circuit counts. edges: then gates on the edges inside it.
    Raises TaskBeyondModelError, before that, if the unpruned model itself misses the target; a control, which
    the model has no reason to do, is pruned all the same.
    """
    if not data.is_control:
        require_ability(model, data, prune)
    config, params = model.config, model.params
    seeds = make_lanes(prune, lanes)
    found = optimize_gates(config, prune, params, means, [data.train], seeds, label)
    judge = judge_on(model, data.validation, means, prune)
    reduced = next(reduce_nodes(judge, working_lanes(found), (prune.target_loss,), prune.tied_qk))
    if edges:
        reduced = reduce_edges(judge, data.train, reduced, prune, make_lanes(prune, lanes), f"{label} edges")
    working = int(np.flatnonzero(~found.failed)[0])  # the first lane that did not break down
    optimized = {
        "lanes": lanes,
        "optimized_gates": int(found.history["open"][working, -1]),
        "optimized_loss": float(found.history["loss"][working, -1]),
    }
    return circuit_of(model, data, means, prune, reduced, {**provenance, **optimized})


def circuit_of(
    model: Model,
    data: TaskData,
    means: Gates,
    prune: PruneConfig,
    reduced: Reduced,
    provenance: Mapping[str, object],
) -> Circuit:
    """The circuit as data, calibrated on the training pairs and measured once on the test split.

    Its `losses`: "unpruned" and "circuit" (test split), "validation" (what the size was chosen by),
    "calibrated" (test split, after the fit), each with its standard error over pairs as "<name>_error", and
    "target". Its provenance says whether the target was reached, and the sizes before elimination.
    """
    losses, calibration = _measure(model, data, means, prune, reduced)
    held = jax.device_get({site: means[site] for site in prune.sites})
    nodes = kept_nodes(reduced.gates, held, reduced.scores, model.config.n_layers)
    edges = find_edges(model.config, model.params, nodes, reduced.gates)
    others = other_counts(model.config, model.params, nodes, prune.sites)
    return Circuit(
        nodes=nodes,
        edges=edges,
        sites=prune.sites,
        counts={"nodes": len(nodes), "edges": len(edges), **others},
        losses=losses,
        calibration=calibration,
        provenance={
            "model": model.origin,
            "task": data.name,
            "pairs": data.fingerprint,
            "reached": reduced.reached,
            "discretized": reduced.discretized,
            "pruning": dataclasses.asdict(prune),
            "config": model.run or {"model": dataclasses.asdict(model.config)},
            **provenance,
        },
        edge_gated=any(map(sites.is_edge, reduced.gates)),
    )


def reduced_of(circuit: Circuit, config: ModelConfig) -> Reduced:
    """What `circuit_of` was given, for a circuit of nodes; nodes outside of it have a score of 0."""
    shapes = sites.node_shapes(config, circuit.sites)
    scores = {site: np.zeros(shape, np.float32) for site, shape in shapes.items()}
    for node in circuit.nodes:
        place = (node.index,) if node.site in sites.UNLAYERED_SITES else (node.layer, node.index)
        scores[node.site][place] = node.score
    about, losses = circuit.provenance, circuit.losses
    return Reduced(
        losses["target"],
        circuit.gates(config),
        scores,
        about["discretized"],
        losses["validation"],
        losses["validation_error"],
        about["reached"],
    )


def _measure(
    model: Model, data: TaskData, means: Gates, prune: PruneConfig, reduced: Reduced
) -> tuple[dict[str, float], dict[str, object]]:
    loss = LOSSES[prune.judged_by]
    train, test = (judge_on(model, pairs, means, prune) for pairs in (data.train, data.test))
    # the training pairs are many: the few that the size was chosen by would be fitted too well
    fit_logits = train.logits(reduced.gates)
    calibration = calibrate(fit_logits, data.train.candidates, prune.calibration_steps, prune.judged_by)
    logits = test.logits(reduced.gates)
    figures = {
        "unpruned": summarize(test.losses({})),
        "validation": (reduced.loss, reduced.standard_error),
        "circuit": summarize(loss(logits, data.test.candidates)),
        "calibrated": summarize(loss(calibration.apply(logits), data.test.candidates)),
    }
    losses = {"target": reduced.target}
    for name, (mean, error) in figures.items():
        # a single pair has no standard error
        losses |= {name: mean, f"{name}_error": error if math.isfinite(error) else None}
    return losses, calibration.to_json()
