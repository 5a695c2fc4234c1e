"""Judges a circuit in its model, under the ablation that it was found with or another."""

import dataclasses

import numpy as np

from sparse_jax.ablation.judge import Judge
from sparse_jax.ablation.kinds import ABLATIONS, ADVERSARIAL, kinds_of
from sparse_jax.circuits.applied import check_circuit, has_frozen_norms, mean_windows, own_ablation, values_of
from sparse_jax.circuits.gates import Gates
from sparse_jax.circuits.graph import Circuit
from sparse_jax.inputs import require, require_choice
from sparse_jax.models.means import text_windows
from sparse_jax.models.model import Model
from sparse_jax.tasks.encode import EncodedPairs, check_pairs


def circuit_logits(
    model: Model,
    circuit: Circuit,
    pairs: EncodedPairs,
    ablation: str | None = None,
    seed: int = 0,
    values: Gates | None = None,
    text: np.ndarray | None = None,
) -> np.ndarray:
    """Logits [P, 2, V] of the circuit, not calibrated, after the last token of every pair's members.

    ablation: what closed nodes carry, a single kind; None for zero if the circuit was found with that, else
    the mean. Random kinds draw once for each pair from `seed`; an adversary that is shared chooses for 32
    pairs together. values: what `values_of` gives, text: what `text_windows` gives, if they are at hand.
    Raises InputError for a circuit of another model, for pairs in tokens that the model has not, and for an
    adversary against a circuit of all nodes, who has nothing to choose.
    """
    check_circuit(model, circuit)
    check_pairs(model.config, pairs)
    kind = own_ablation(circuit) if ablation is None else ablation
    require_choice("ablation", kind, ABLATIONS)
    judge = circuit_judge(model, circuit, pairs, kind, seed, values, text)
    gates = circuit.gates(model.config)
    closed = any((np.asarray(gate) == 0).any() for gate in gates.values())
    require(
        closed or kind not in ADVERSARIAL, "ablation", kind, "a kind without an adversary: no gate is closed"
    )
    return judge.logits(gates)


def circuit_judge(
    model: Model,
    circuit: Circuit,
    pairs: EncodedPairs,
    ablation: str,
    seed: int = 0,
    values: Gates | None = None,
    text: np.ndarray | None = None,
    draws: int = 1,
) -> Judge:
    """A judge of the model's circuits on these pairs; the arguments are those of `circuit_logits`."""
    kinds = kinds_of("ablation", ablation)
    values = values_of(model, circuit) if values is None else values
    if "resample_text" in kinds and text is None:
        text = text_windows(model, mean_windows(circuit))
    found = Judge(model.config, model.params, values, pairs, "binary", has_frozen_norms(circuit))
    constants = circuit.held(model.config)
    return dataclasses.replace(
        found, ablation=ablation, draws=draws, text=text, seed=seed, constants=constants
    )
