"""How small circuits get where the loss is that after calibration, a scale and a shift of the logits."""

import dataclasses

import numpy as np

from sparse_jax.ablation.judge import Judge
from sparse_jax.circuits.applied import calibrated_params, check_task, own_ablation, values_of
from sparse_jax.circuits.calibration import calibrate
from sparse_jax.circuits.graph import Circuit
from sparse_jax.inputs import InputError, from_mapping
from sparse_jax.models.model import Model
from sparse_jax.pruning.config import PruneConfig
from sparse_jax.pruning.eliminate import eliminate
from sparse_jax.pruning.extract import circuit_of, reduced_of
from sparse_jax.pruning.reduce import Reduced
from sparse_jax.pruning.store import Store
from sparse_jax.pruning.subject import Subject
from sparse_jax.pruning.swap import swap
from sparse_jax.tasks.task import Task
from sparse_jax.tasks.task_data import task_data


def reduce_calibrated(model: Model, circuit: Circuit, task: Task, label: str = "") -> Circuit:
    """The circuit without what it does not need once its logits are calibrated.

    Elimination (with swaps, if the circuit was found with swaps) and calibration take turns: nodes go while
    the loss with the present scale and shift is within the circuit's target, then both are fitted again. Each
    circuit on the way is judged with a fit of its own, on all training pairs; the last one within the target
    is returned, with "calibrated" in its provenance, and "validation" among its losses is after calibration.
    Constants of closed nodes stay. Raises InputError for a model with tied embeddings, and for a circuit of
    another model or task or with gates on edges.
    """
    if circuit.edge_gated:
        raise InputError(f"circuit: {circuit!r} has gated edges; valid: a circuit of nodes")
    check_task(model, circuit, task)
    prune = from_mapping(PruneConfig, dict(circuit.provenance["pruning"]), "pruning")
    subject = Subject(model, values_of(model, circuit), Store(None))
    data = task_data(task, model.require_tokenizer(), model.config.context, prune.counts)
    fit = subject.judge(data.train, dataclasses.replace(prune, ablation=own_ablation(circuit)))
    judge = dataclasses.replace(subject.judge(data.validation, prune), label=label)
    reduced = _in_turns(fit, judge, reduced_of(circuit, model.config), prune)
    about = {"calibrated": True, "identity": circuit.provenance["identity"]}
    return circuit_of(subject, data, prune, reduced, about)


def _in_turns(fit: Judge, judge: Judge, start: Reduced, prune: PruneConfig) -> Reduced:
    fit, judge = (one.holding(start.constants) for one in (fit, judge))
    best, gates = start._replace(reached=False), start.gates
    while True:
        calibration = calibrate(fit.logits(gates), fit.candidates, prune.calibration_steps, prune.judged_by)
        judge = dataclasses.replace(judge, params=calibrated_params(fit.params, calibration))
        losses_M = judge.losses(gates)
        reached = bool(judge.bound(losses_M[None])[0] <= start.target)
        if reached or gates is start.gates:
            loss, error = judge.summary(losses_M)
            # a swap may have opened a node that carried a constant
            held = {site: np.where(gates[site] > 0, np.nan, x) for site, x in start.constants.items()}
            best = best._replace(
                gates=gates, loss=loss, standard_error=error, reached=reached, constants=held
            )
        if not reached:
            return best
        smaller = eliminate(judge, gates, gates, start.target, prune.tied_qk)
        if prune.swaps:
            smaller = swap(judge, smaller, None, start.target, prune.tied_qk)
        if all(np.array_equal(smaller.gates[site], gates[site]) for site in gates):
            return best
        gates = smaller.gates
