"""A released circuit as one of ours."""

import numpy as np

from sparse_jax.circuits.edges import find_edges, kept_nodes, other_counts
from sparse_jax.circuits.graph import Circuit
from sparse_jax.interop.viz_data import VizData
from sparse_jax.model import sites
from sparse_jax.model.config import ModelConfig
from sparse_jax.model.forward import Params


def released_circuit(found: VizData, config: ModelConfig, params: Params) -> Circuit:
    """The circuit of `found` in the model that it was found in: its nodes, all nonzero weights between them.

    The file says neither the means that nodes were ablated to nor the gate logits: `mean` and `score` are 0,
    and whoever runs the circuit has to measure the means.
    """
    unknown = {site: np.zeros_like(gate) for site, gate in found.gates.items()}
    nodes = kept_nodes(found.gates, unknown, unknown, config.n_layers)
    edges = find_edges(config, params, nodes)
    gated = tuple(site for site in sites.NODE_SITES if site in found.gates)
    counts = {"nodes": len(nodes), "edges": len(edges), **other_counts(config, params, nodes, gated)}
    return Circuit(nodes, edges, gated, counts, dict(found.losses), {}, {"origin": "released viz_data"})
