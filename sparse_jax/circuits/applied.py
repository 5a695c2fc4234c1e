"""A circuit in its model: the ablation values that it was found with, its hooks, norms and calibration."""

import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from tokenizers import Tokenizer

from sparse_jax.circuits.calibration import Calibration
from sparse_jax.circuits.edge_gates import gate_edges
from sparse_jax.circuits.gates import Gates, by_kind
from sparse_jax.circuits.graph import Circuit
from sparse_jax.files import user_path
from sparse_jax.inputs import InputError, require
from sparse_jax.model import sites
from sparse_jax.model.forward import Params, forward
from sparse_jax.model.hooks import Hooks
from sparse_jax.models.means import MEAN_WINDOWS, ablation_values, load_means
from sparse_jax.models.model import Model
from sparse_jax.tasks.task import Task
from sparse_jax.tasks.task_data import Counts, task_data
from sparse_jax.trees import fingerprint


def check_circuit(model: Model, circuit: Circuit) -> None:
    """Raises InputError for a circuit of another model, and for what is no circuit."""
    require(isinstance(circuit, Circuit), "circuit", circuit, "what sj.load_circuit or sj.prune gives")
    if circuit.model is not None and circuit.model != model.fingerprint:
        raise InputError(
            f"circuit: it belongs to model {circuit.model} ({circuit.provenance.get('model')}); "
            f"valid: circuits of {model.fingerprint} ({model.origin})"
        )


def check_task(model: Model, circuit: Circuit, task: Task) -> None:
    """Raises InputError for a circuit of another model, and for another task than it was found for.

    The task is known by the hash of its pairs, whatever its name; by its name alone if the circuit has no
    hash.
    """
    check_circuit(model, circuit)
    about, own = circuit.provenance, circuit.task
    if "pairs" not in about or "pruning" not in about:
        require(own in (None, task.name), "task", task.name, f"{own!r}, which the circuit was found for")
        return
    counts = Counts.of(about["pruning"])
    try:
        found = _pairs_hash(task, model.require_tokenizer(), model.config.context, counts)
    except InputError as error:
        found = str(error)
    if found != about["pairs"]:
        raise InputError(
            f"task: {task.name!r} has other pairs than the circuit was found on ({found}); "
            f"valid: {own!r} with the pairs that it was found on ({about['pairs']})"
        )


@functools.lru_cache(maxsize=64)
def _pairs_hash(task: Task, tokenizer: Tokenizer, context: int, counts: Counts) -> str:
    """A second or so to draw the pairs, and scores of one circuit are asked for again and again."""
    return task_data(task, tokenizer, context, counts).fingerprint


def found_for(model: Model, circuit: Circuit, task: Task) -> str:
    """The task that the circuit was found for if that is another than `task`; empty if not, or not known."""
    own = circuit.provenance.get("task")
    try:
        check_task(model, circuit, task)
    except InputError:
        return f"other pairs of {own}" if own == task.name else str(own)
    return ""


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
    windows = mean_windows(circuit)
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


def carried(model: Model, circuit: Circuit, values: Gates) -> Gates:
    """What closed nodes of a circuit carry, [L, N] by site: a constant of their own, or the ablation's."""
    own, held = own_ablation(circuit), circuit.held(model.config)
    ablated = {site: jnp.zeros_like(value) if own == "zero" else value for site, value in values.items()}
    return {
        site: jnp.where(jnp.isnan(held[site]), value, held[site]) if site in held else value
        for site, value in ablated.items()
    }


def own_ablation(circuit: Circuit) -> str:
    """ "zero" for a circuit that was found with it, else "mean"."""
    return "zero" if _pruning(circuit).get("ablation", "mean") == "zero" else "mean"


def has_frozen_norms(circuit: Circuit) -> bool:
    """Whether its RMSNorms divide by what they have in the full model."""
    return bool(_pruning(circuit).get("frozen_norms", False))


def mean_windows(circuit: Circuit) -> int:
    """How many windows of training text its ablation values are means over."""
    return int(_pruning(circuit).get("mean_windows", MEAN_WINDOWS))


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
    """The calibration of a circuit; the identity if it has none.

    Raises InputError for tokens past the vocabulary.
    """
    shift = np.zeros(vocab_size, np.float32)
    for token, value in circuit.calibration.get("shift", {}).items():
        valid = f"token ids 0 to {vocab_size - 1}"
        require(int(token) < vocab_size, "circuit.calibration.shift", token, valid)
        shift[int(token)] = value
    return Calibration(jnp.float32(circuit.calibration.get("scale", 1.0)), jnp.asarray(shift))


def calibrated_params(params: Params, calibration: Calibration) -> Params:
    """Parameters of the model whose logits are calibrated. Raises InputError for tied embeddings."""
    if "unembed" not in params:
        raise InputError("model.tied_embedding: True is not valid; valid: False, for a scale of the logits")
    scaled = {"unembed": jax.tree.map(lambda weight: weight * calibration.scale, params["unembed"])}
    if "bigram" in params:
        # of a table that is a product, one factor
        factors, tree = jax.tree.flatten(params["bigram"])
        scaled["bigram"] = jax.tree.unflatten(tree, [factors[0] * calibration.scale, *factors[1:]])
    return {**params, **scaled, "logit_bias": calibration.apply(params["logit_bias"])}
