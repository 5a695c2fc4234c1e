"""Runs a circuit in its model, with gates, ablation values, frozen norms and calibration."""

import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from sparse_jax.ablation.judge import Judge
from sparse_jax.ablation.kinds import ABLATIONS, CONSTANT_ABLATIONS, constant_ablated, draw_ablated
from sparse_jax.ablation.objective import last_logits
from sparse_jax.ablation.values import MEAN_WINDOWS, ablation_values, load_means
from sparse_jax.circuits.calibration import Calibration
from sparse_jax.circuits.edge_gates import gate_edges
from sparse_jax.circuits.gates import Gates, by_kind
from sparse_jax.circuits.graph import Circuit
from sparse_jax.files import user_path
from sparse_jax.inputs import InputError, require, require_choice
from sparse_jax.model import sites
from sparse_jax.model.config import ModelConfig
from sparse_jax.model.forward import Params, forward
from sparse_jax.model.hooks import Hooks
from sparse_jax.models.model import Model
from sparse_jax.tasks.encode import EncodedPairs, check_pairs
from sparse_jax.trees import fingerprint

BATCH = 32  # pairs; random ablation values are drawn from other prompts of the batch


def check_circuit(model: Model, circuit: Circuit) -> None:
    """Raises InputError for a circuit of another model."""
    found = circuit.provenance.get("weights")
    if found is not None and found != model.fingerprint:
        raise InputError(
            f"circuit: it belongs to model {found} ({circuit.provenance.get('model')}); "
            f"valid: circuits of {model.fingerprint} ({model.origin})"
        )


def values_of(model: Model, circuit: Circuit) -> Gates:
    """The ablation values, by site, that the circuit was found with.

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
    pruning = _pruning(circuit)
    windows, kind = pruning.get("mean_windows", MEAN_WINDOWS), pruning.get("ablation", "mean")
    names = [s for s in sites.NODE_SITES if s != sites.EMBED_SITE or s in circuit.sites]
    values = ablation_values(model, names, windows, kind)
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
) -> np.ndarray:
    """Logits [P, 2, V] of the circuit, not calibrated, after the last token of every pair's members.

    ablation: what closed nodes carry: None for what they carried when the circuit was found, or a name of
    `ABLATIONS`, whose random kinds draw once for each batch of pairs from `seed`. values: what `values_of`
    gives, if it is at hand. Raises InputError for a circuit of another model, for pairs in tokens that the
    model has not, and for a random kind with a circuit of gated edges, which replace weights.
    """
    check_pairs(model.config, pairs)
    gates = circuit.gates(model.config)
    frozen = bool(_pruning(circuit).get("frozen_norms", False))
    values = values_of(model, circuit) if values is None else values
    if ablation is None:
        return Judge(model.config, model.params, values, pairs, frozen_norms=frozen).logits(gates)
    require_choice("ablation", ablation, ABLATIONS)
    means = values
    if _pruning(circuit).get("ablation", "mean") == "zero":
        means = ablation_values(model, tuple(values), _pruning(circuit).get("mean_windows", MEAN_WINDOWS))
    if ablation in CONSTANT_ABLATIONS:
        values = constant_ablated(ablation, means)
        return Judge(model.config, model.params, values, pairs, frozen_norms=frozen).logits(gates)
    if circuit.edge_gated:
        valid = f"{' or '.join(CONSTANT_ABLATIONS)} for a circuit of gated edges"
        raise InputError(f"ablation: {ablation!r} is not valid; valid: {valid}")
    require(len(pairs.tokens) > 1, "pairs", len(pairs.tokens), f"at least 2 with ablation {ablation!r}")
    run = _compiled_draw(model.config, ablation, frozen)
    opened, found = {site: jnp.asarray(gate) for site, gate in gates.items()}, []
    # the last batch overlaps the one before: all have the same size, and no pair is alone
    size = min(BATCH, len(pairs.tokens))
    for start in range(0, len(pairs.tokens), size):
        begin = min(start, len(pairs.tokens) - size)
        batch = EncodedPairs(*(array[begin : begin + size] for array in pairs))
        key = jax.random.fold_in(jax.random.key(seed), start)
        found.append(np.asarray(run(model.params, opened, means, batch, key))[start - begin :])
    return np.concatenate(found)


@functools.cache
def _compiled_draw(config: ModelConfig, kind: str, frozen: bool):
    def run(params, gates, means, pairs, key):
        ablated = draw_ablated(config, params, kind, means, pairs, key)
        return last_logits(config, params, gates, ablated, pairs, frozen)

    return jax.jit(run)


def _pruning(circuit: Circuit) -> Mapping[str, Any]:
    return circuit.provenance.get("pruning", {})


def circuit_hooks(
    model: Model, circuit: Circuit, values: Gates, tokens_BxT: jax.Array
) -> tuple[Params, Hooks]:
    """Parameters and hooks with which `forward` computes the circuit, except for its calibration."""
    nodes, edges = by_kind(circuit.gates(model.config))
    params = model.params
    if edges:
        params = gate_edges(model.config, params, {key: jnp.asarray(g) for key, g in edges.items()}, values)
    norms = {}
    if _pruning(circuit).get("frozen_norms", False):
        norms = forward(model.config, model.params, tokens_BxT, Hooks(capture=sites.NORMS))[1]
    gates = {site: jnp.asarray(gate) for site, gate in nodes.items()}
    return params, Hooks(gates, {site: jnp.asarray(values[site]) for site in gates}, norms=norms)


def calibration_of(circuit: Circuit, vocab_size: int) -> Calibration:
    """The calibration of a circuit; the identity if it has none."""
    shift = np.zeros(vocab_size, np.float32)
    for token, value in circuit.calibration.get("shift", {}).items():
        shift[int(token)] = value
    return Calibration(jnp.float32(circuit.calibration.get("scale", 1.0)), jnp.asarray(shift))
