"""Reads released circuits (`viz_data.pt`)."""

import dataclasses
import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from sparse_jax.circuits.edges import find_edges, kept_nodes, other_counts
from sparse_jax.circuits.graph import Circuit
from sparse_jax.inputs import InputError, nearest
from sparse_jax.model import sites
from sparse_jax.model.config import ModelConfig
from sparse_jax.models.model import Model
from sparse_jax.models.torch_reader import StoredTensor, read_torch_file

SITES = {
    "attn.act_in": "attn_in",
    "attn.q": "q",
    "attn.k": "k",
    "attn.v": "v",
    "attn.resid_delta": "attn_out",
    "mlp.act_in": "mlp_in",
    "mlp.post_act": "mlp_neuron",
    "mlp.resid_delta": "mlp_out",
}


@dataclasses.dataclass(frozen=True)
class VizData:
    """A released circuit as plain data.

    gates: by site, [L, N] ([N] at `final_resid`), 1 where the node is kept; k: how many are.
    losses: task losses in nats, mean over both members of a pair (the file holds their sum).
    task_tokens: the task's samples [P, T], padded with zeros at the end; None if the file has none.
    """

    gates: Mapping[str, np.ndarray]
    k: int
    losses: Mapping[str, float]
    task_tokens: np.ndarray | None


def read_viz_data(path: str | os.PathLike, config: ModelConfig) -> VizData:
    """The circuit of a file, for the released model of `config` that it was found in.

    Raises InputError for a damaged file, a site that is unknown or missing in some layer, and nodes that the
    model does not have.
    """
    found = read_torch_file(path)
    kept = found.get("circuit_data") if isinstance(found, dict) else None
    if not isinstance(kept, dict):
        raise InputError(f"{path}: circuit_data not found; valid: a viz_data.pt of a released circuit")
    gates = _gates(kept, config, Path(path))
    importances = found.get("importances") or {}
    losses = {}
    for ours, theirs in (("unpruned", "loss"), ("circuit", "interv_loss")):
        if importances.get(theirs) is not None:
            losses[ours] = float(_array(importances[theirs])) / 2
    samples = importances.get("task_samples")
    tokens = None if samples is None else _array(samples[0]).astype(np.int32)
    return VizData(gates, int(sum(gate.sum() for gate in gates.values())), losses, tokens)


def _gates(kept: Mapping[str, object], config: ModelConfig, path: Path) -> dict[str, np.ndarray]:
    shapes = sites.node_shapes(config)
    gates: dict[str, np.ndarray] = {}
    layers: dict[str, set[int | None]] = {}
    for name, nodes in kept.items():
        layer, site = _place(name, config, path)
        gate = gates.setdefault(site, np.zeros(shapes[site], np.float32))
        row = gate if layer is None else gate[layer]
        row[_indices(nodes, row.size, f"{path}: {name}")] = 1.0
        layers.setdefault(site, set()).add(layer)
    for site, there in layers.items():
        if site != sites.FINAL_SITE and len(there) != config.n_layers:
            layer = min(set(range(config.n_layers)) - there)
            raise InputError(f"{path}: {site!r} of layer {layer} is missing; valid: every layer of a site")
    return gates


def _place(name: str, config: ModelConfig, path: Path) -> tuple[int | None, str]:
    """Layer and site of names such as "{layer}.attn.q"; the layer is None for the final site."""
    if name == sites.FINAL_SITE:
        return None, name
    layer, _, site = str(name).partition(".")
    if site not in SITES:
        raise InputError(f"{path}: the site {name!r} is unknown; {nearest(site, [*SITES, sites.FINAL_SITE])}")
    if not layer.isdecimal() or int(layer) >= config.n_layers:
        raise InputError(f"{path}: {name!r} has no layer of this model; valid: 0 to {config.n_layers - 1}")
    return int(layer), SITES[site]


def _indices(nodes: object, width: int, name: str) -> np.ndarray:
    """Indices of the kept nodes, from indices or from a boolean mask [width]."""
    values = _array(nodes).reshape(-1)
    if values.dtype == bool and values.size == width:
        return np.flatnonzero(values)
    if values.size and (
        not np.issubdtype(values.dtype, np.integer) or values.min() < 0 or values.max() >= width
    ):
        raise InputError(
            f"{name}: contains an invalid node; valid: whole numbers from 0 to {width - 1}, or a mask"
        )
    return values.astype(np.int64)


def _array(value: object) -> np.ndarray:
    return value.read() if isinstance(value, StoredTensor) else np.asarray(value)


def released_circuit(found: VizData, model: Model) -> Circuit:
    """The circuit of `found` in the model that it was found in: its nodes, all nonzero weights between them.

    The file contains neither the means that nodes were ablated to nor the gate logits: `mean` and `score` are
    0, and the means have to be measured before the circuit is run.
    """
    config, params = model.config, model.params
    unknown = {site: np.zeros_like(gate) for site, gate in found.gates.items()}
    nodes = kept_nodes(found.gates, unknown, unknown, config.n_layers)
    edges = find_edges(params, nodes, found.gates)
    gated = tuple(site for site in sites.NODE_SITES if site in found.gates)
    counts = {"nodes": len(nodes), "edges": len(edges), **other_counts(config, params, nodes, gated)}
    about = {"origin": "released viz_data", "model": model.origin, "weights": model.fingerprint}
    about["kind"] = model.kind
    return Circuit(nodes, edges, gated, counts, dict(found.losses), {}, about)
