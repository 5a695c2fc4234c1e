"""Judges a circuit in its model, under the ablation that it was found with or another."""

import dataclasses

import numpy as np

from sparse_jax.ablation.judge import Judge
from sparse_jax.ablation.kinds import ADVERSARIAL, is_drawn, kinds_of
from sparse_jax.circuits.applied import (
    calibrated_params,
    calibration_of,
    check_circuit,
    has_frozen_norms,
    mean_windows,
    own_ablation,
    values_of,
)
from sparse_jax.circuits.gates import Gates
from sparse_jax.circuits.graph import Circuit
from sparse_jax.inputs import require
from sparse_jax.models.means import text_windows
from sparse_jax.models.model import Model
from sparse_jax.tasks.encode import EncodedPairs, check_pairs
from sparse_jax.tasks.metrics import METRICS, Estimate


def circuit_scores(
    model: Model,
    circuit: Circuit,
    pairs: EncodedPairs,
    ablation: str | None = None,
    seed: int = 0,
    draws: int = 1,
) -> tuple[str, dict[str, Estimate]]:
    """The kind of ablation under which the circuit's loss is largest, and every metric under that kind.

    The circuit is calibrated if its size was chosen after calibration. ablation: what closed nodes carry, a
    kind or several joined with "+"; None for zero if the circuit was found with that, else the mean. draws:
    of every random kind from `seed`, over which a pair's values are averaged. An adversary that is shared
    chooses for 32 pairs together.

    Raises InputError for a circuit of another model, for pairs with tokens that the model does not have, for
    draws of kinds that are not random, and for an adversary against a circuit of all nodes, which leaves
    nothing to choose.
    """
    check_circuit(model, circuit)
    check_pairs(model.config, pairs)
    joined = own_ablation(circuit) if ablation is None else ablation
    kinds, gates = kinds_of("ablation", joined), circuit.gates(model.config)
    require(draws >= 1, "draws", draws, "at least 1")
    may_draw = draws == 1 or any(map(is_drawn, kinds))
    require(may_draw, "draws", draws, f"1 with ablation {joined!r}, which is not random")
    closed = any((np.asarray(gate) == 0).any() for gate in gates.values())
    valid = "kinds without an adversary: no gate is closed"
    require(closed or not set(kinds) & set(ADVERSARIAL), "ablation", joined, valid)
    judge = circuit_judge(model, circuit, pairs, joined, seed, draws=draws)
    logits = judge.logits(gates)
    by_metric = {
        name: judge.by_kind(np.asarray(metric(logits, judge.candidates), np.float64))
        for name, metric in METRICS.items()
    }
    worst = max(kinds, key=lambda kind: by_metric["loss"][kind].mean)
    return worst, {name: found[worst] for name, found in by_metric.items()}


def circuit_judge(
    model: Model,
    circuit: Circuit,
    pairs: EncodedPairs,
    ablation: str,
    seed: int = 0,
    values: Gates | None = None,
    text: np.ndarray | None = None,
    draws: int = 1,
    calibrated: bool = True,
) -> Judge:
    """A judge of the model's circuits on these pairs, under a kind of ablation or several joined with "+".

    values: what `values_of` gives, text: what `text_windows` gives, if they are at hand. calibrated: whether
    logits are calibrated if the circuit's size was chosen so; False where the full model is judged.
    """
    kinds = kinds_of("ablation", ablation)
    values = values_of(model, circuit) if values is None else values
    if "resample_text" in kinds and text is None:
        text = text_windows(model, mean_windows(circuit))
    params = model.params
    if calibrated and circuit.calibrated:
        params = calibrated_params(params, calibration_of(circuit, model.config.vocab_size))
    found = Judge(model.config, params, values, pairs, "binary", has_frozen_norms(circuit))
    constants = circuit.held(model.config)
    return dataclasses.replace(
        found, ablation=ablation, draws=draws, text=text, seed=seed, constants=constants
    )
