"""Runs a circuit in its model, with gates, ablation values, frozen norms and calibration."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from sparse_jax.ablation.constants import hold
from sparse_jax.ablation.draws import Ablated, constant_ablated
from sparse_jax.ablation.judge import Judge
from sparse_jax.ablation.kinds import ABLATIONS, ADVERSARIAL, kinds_of
from sparse_jax.ablation.values import MEAN_WINDOWS, ablation_values, load_means, text_windows
from sparse_jax.circuits.calibration import Calibration
from sparse_jax.circuits.edge_gates import gate_edges
from sparse_jax.circuits.gates import Gates, by_kind
from sparse_jax.circuits.graph import Circuit
from sparse_jax.files import user_path
from sparse_jax.inputs import InputError, require, require_choice
from sparse_jax.model import sites
from sparse_jax.model.forward import Params, forward
from sparse_jax.model.hooks import Hooks
from sparse_jax.models.model import Model
from sparse_jax.tasks.encode import EncodedPairs, check_pairs
from sparse_jax.trees import fingerprint


def check_circuit(model: Model, circuit: Circuit) -> None:
    """Raises InputError for a circuit of another model."""
    found = circuit.provenance.get("weights")
    if found is not None and found != model.fingerprint:
        raise InputError(
            f"circuit: it belongs to model {found} ({circuit.provenance.get('model')}); "
            f"valid: circuits of {model.fingerprint} ({model.origin})"
        )


def values_of(model: Model, circuit: Circuit) -> Gates:
    """The means, by site, that the circuit was found with.

    They are read from next to the circuit's file or a published model, or measured again on the model's
    training text. Raises InputError if they have changed since, and for a circuit of another model.
    """
    check_circuit(model, circuit)
    wanted = circuit.provenance.get("values")
    for path in sorted(user_path(circuit.folder).glob("means*.npz")) if circuit.folder and wanted else ():
        try:
            kept = load_means(path, model.fingerprint)
        except InputError:
            continue  # means of something else
        if values_hash(kept) == wanted:
            return kept
    windows = _pruning(circuit).get("mean_windows", MEAN_WINDOWS)
    names = [s for s in sites.NODE_SITES if s != sites.EMBED_SITE or s in circuit.sites]
    values = ablation_values(model, names, windows)
    if wanted is not None and values_hash(values) != wanted:
        raise InputError(
            f"circuit: its ablation values have the hash {wanted}, but those of {model.origin} are now "
            f"{values_hash(values)}; valid: the text and the means that the circuit was found with"
        )
    return values


def values_hash(values: Gates) -> str:
    """A hash of a set of ablation values."""
    return fingerprint({site: np.asarray(value, np.float32) for site, value in values.items()})[:16]


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
        text = text_windows(model, _pruning(circuit).get("mean_windows", MEAN_WINDOWS))
    found = Judge(model.config, model.params, values, pairs, "binary", has_frozen_norms(circuit))
    constants = circuit.held(model.config)
    return dataclasses.replace(
        found, ablation=ablation, draws=draws, text=text, seed=seed, constants=constants
    )


def carried(model: Model, circuit: Circuit, values: Gates) -> Gates:
    """What closed nodes of a circuit carry, [L, N] by site: a constant of their own, or the ablation's."""
    ablated = Ablated(constant_ablated(own_ablation(circuit), values), {})
    return hold(ablated, circuit.held(model.config)).values


def own_ablation(circuit: Circuit) -> str:
    """ "zero" for a circuit that was found with it, else "mean"."""
    return "zero" if _pruning(circuit).get("ablation", "mean") == "zero" else "mean"


def has_frozen_norms(circuit: Circuit) -> bool:
    """Whether its RMSNorms divide by what they have in the full model."""
    return bool(_pruning(circuit).get("frozen_norms", False))


def _pruning(circuit: Circuit) -> Mapping[str, Any]:
    return circuit.provenance.get("pruning", {})


def circuit_hooks(
    model: Model, circuit: Circuit, values: Gates, tokens_BxT: jax.Array
) -> tuple[Params, Hooks]:
    """Parameters and hooks with which `forward` computes the circuit, except for its calibration."""
    nodes, edges = by_kind(circuit.gates(model.config))
    params, values = model.params, carried(model, circuit, values)
    if edges:
        closed = {key: jnp.asarray(gate) for key, gate in edges.items()}
        params, _ = gate_edges(model.config, params, closed, values)
    norms = {}
    if has_frozen_norms(circuit):
        norms = forward(model.config, model.params, tokens_BxT, Hooks(capture=sites.NORMS))[1]
    gates = {site: jnp.asarray(gate) for site, gate in nodes.items()}
    return params, Hooks(gates, {site: jnp.asarray(values[site]) for site in gates}, norms=norms)


def calibration_of(circuit: Circuit, vocab_size: int) -> Calibration:
    """The calibration of a circuit; the identity if it has none."""
    shift = np.zeros(vocab_size, np.float32)
    for token, value in circuit.calibration.get("shift", {}).items():
        shift[int(token)] = value
    return Calibration(jnp.float32(circuit.calibration.get("scale", 1.0)), jnp.asarray(shift))
