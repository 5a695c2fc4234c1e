"""From a reduced circuit to a `Circuit` with losses and provenance, and back."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from sparse_jax.ablation.draws import constant_ablated
from sparse_jax.ablation.judge import Judge
from sparse_jax.ablation.kinds import is_constant
from sparse_jax.circuits.calibration import calibrate
from sparse_jax.circuits.edges import find_edges, kept_nodes, other_counts
from sparse_jax.circuits.gates import Gates
from sparse_jax.circuits.graph import Circuit, Node
from sparse_jax.model import sites
from sparse_jax.model.config import ModelConfig
from sparse_jax.pruning.config import PruneConfig
from sparse_jax.pruning.reduce import Reduced
from sparse_jax.pruning.subject import Subject
from sparse_jax.tasks.metrics import LOSSES, Estimate
from sparse_jax.tasks.task_data import TaskData


def circuit_of(
    subject: Subject,
    data: TaskData,
    prune: PruneConfig,
    reduced: Reduced,
    provenance: Mapping[str, object],
) -> Circuit:
    """The circuit as data, calibrated on the training pairs and measured once on the test split.

    Its `losses`: "unpruned" and "circuit" (test split), "validation" (the loss that chose the size),
    "confirmation" (on fresh pairs, if there were any), "calibrated" (test split, after the fit), each with
    its standard error over pairs as "<name>_error", and "target". Under several ablations they are those of
    the worst, and "circuit, <kind>", "validation, <kind>", "confirmation, <kind>" are those of each. Its
    provenance says whether the target was reached, and the sizes before elimination.
    """
    model = subject.model
    losses, calibration = _measure(subject, data, prune, reduced)
    values = carried_values(prune, subject.values)
    nodes = kept_nodes(reduced.gates, values, reduced.scores, model.config.n_layers)
    edges = find_edges(model.params, nodes, reduced.gates)
    others = other_counts(model.config, model.params, nodes, prune.sites)
    constants = _constants(reduced, model.config.n_layers)
    if constants:
        others = {**others, "constants": len(constants)}
    return Circuit(
        nodes=nodes,
        edges=edges,
        sites=prune.sites,
        counts={"nodes": len(nodes), "edges": len(edges), **others},
        losses=losses,
        calibration=calibration,
        provenance={
            "model": model.origin,
            "kind": model.kind,
            **({"control": model.facts["control"]} if model.is_control else {}),
            "task": data.name,
            **subject.origin,
            "pairs": data.fingerprint,
            "answers": sorted({int(token) for token in data.train.candidates.reshape(-1)}),
            "reached": reduced.reached,
            "discretized": reduced.discretized,
            "pruning": dataclasses.asdict(prune),
            "config": model.run or {"model": dataclasses.asdict(model.config)},
            **provenance,
        },
        edge_gated=any(map(sites.is_edge, reduced.gates)),
        constants=constants,
    )


def _constants(reduced: Reduced, n_layers: int) -> tuple[Node, ...]:
    held = {site: np.isfinite(value) for site, value in reduced.constants.items()}
    return kept_nodes(held, reduced.constants, reduced.scores, n_layers)


def reduced_of(circuit: Circuit, config: ModelConfig) -> Reduced:
    """The `Reduced` that `circuit_of` was given, for a circuit of nodes; other nodes get a score of 0."""
    shapes = sites.node_shapes(config, circuit.sites)
    scores = {site: np.zeros(shape, np.float32) for site, shape in shapes.items()}
    for node in (*circuit.nodes, *circuit.constants):
        scores[node.site][node.place] = node.score
    about, losses = circuit.provenance, circuit.losses
    return Reduced(
        losses["target"],
        circuit.gates(config),
        scores,
        about["discretized"],
        *_estimate(losses, "validation"),
        about["reached"],
        circuit.held(config),
        _estimate(losses, "confirmation") if "confirmation" in losses else None,
    )


def _estimate(losses: Mapping[str, Any], name: str) -> Estimate:
    """A loss with its standard error, which a single pair does not have."""
    error = losses[f"{name}_error"]
    return Estimate(losses[name], math.nan if error is None else error)


def carried_values(prune: PruneConfig, means: Gates) -> dict[str, np.ndarray]:
    """What the closed nodes of a circuit carry when it is run, by gated site."""
    carried = constant_ablated(_carried(prune), means)
    return jax.device_get({site: carried[site] for site in prune.sites})


def _carried(prune: PruneConfig) -> str:
    """The constant ablation that a circuit is run with."""
    return prune.ablation if is_constant(prune.ablation) else "mean"


def _measure(
    subject: Subject, data: TaskData, prune: PruneConfig, reduced: Reduced
) -> tuple[dict[str, float], dict[str, object]]:
    loss = LOSSES[prune.judged_by]
    test = dataclasses.replace(subject.judge(data.test, prune), constants=reduced.constants)
    # fitted on the many training pairs: the few validation pairs would be overfitted; and for runs of the
    # circuit, whose closed nodes carry a constant
    train = subject.judge(data.train, dataclasses.replace(prune, ablation=_carried(prune)))
    train = dataclasses.replace(train, constants=reduced.constants)
    fit_logits = train.logits(reduced.gates)
    calibration = calibrate(fit_logits, train.candidates, prune.calibration_steps, prune.judged_by)
    logits = test.logits(reduced.gates)
    full = test.full_logits(subject.open_gates(prune))
    losses_M = np.asarray(loss(logits, test.candidates))
    figures = {
        "unpruned": test.summary(np.asarray(loss(full, test.candidates))),
        "validation": (reduced.loss, reduced.standard_error),
        "circuit": test.summary(losses_M),
        "calibrated": test.summary(np.asarray(loss(calibration.apply(logits), test.candidates))),
    }
    if reduced.confirmation is not None:
        figures["confirmation"] = reduced.confirmation
    if len(prune.kinds) > 1:
        figures |= _by_kind(test, losses_M, "circuit")
        for name, pairs in (("validation", data.validation), ("confirmation", data.confirmation)):
            if name in figures and pairs is not None:
                chose = dataclasses.replace(subject.judge(pairs, prune), constants=reduced.constants)
                figures |= _by_kind(chose, chose.losses(reduced.gates), name)
    losses: dict[str, Any] = {"target": reduced.target}
    for name, (mean, error) in figures.items():
        # a single pair has no standard error
        losses |= {name: mean, f"{name}_error": error if math.isfinite(error) else None}
    return losses, calibration.to_json()


def _by_kind(judge: Judge, losses_M: np.ndarray, name: str) -> dict[str, Estimate]:
    return {f"{name}, {kind}": found for kind, found in judge.by_kind(losses_M).items()}
