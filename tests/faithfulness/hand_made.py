"""A circuit of given gates in the planted model, as if it had been found."""

import dataclasses

import numpy as np

from sparse_jax.circuits.applied import values_hash
from sparse_jax.circuits.edges import find_edges, kept_nodes
from sparse_jax.circuits.graph import Circuit, load_circuit
from sparse_jax.model import sites
from sparse_jax.models.means import save_means
from tests.planted import Planted

# equally many in all tests, so that one program serves them; each has two prompts
PAIRS, ENDS = 16, 32
TASK = Planted("planted", "tests", "which digit is last")
# how a circuit says that it was found, where it is to be pruned again
PRUNING = {
    "steps": 100,
    "pairs_per_step": 4,
    "train_pairs": 8,
    "validation_pairs": 8,
    "test_pairs": 8,
    "learning_rate": 0.008,
    "k_coef": 0.01,
}


def circuit_of(model, values, gates, folder):
    """A circuit of these gates, as if it had been found, with its ablation values beside it."""
    gates = {site: np.asarray(gate, np.float32) for site, gate in gates.items()}
    nodes = kept_nodes(gates, values, gates, 1)
    edges = find_edges(model.params, nodes, gates)
    kept = {site: value for site, value in values.items() if site != "embed"}
    save_means(kept, folder / "means.npz", model.fingerprint)
    about = {"weights": model.fingerprint, "values": values_hash(kept), "task": "planted"}
    circuit = Circuit(nodes, edges, sites.LAYER_SITES, {"edges": len(edges)}, {"target": 0.15}, {}, about)
    circuit.save(folder / "circuit.json")
    return load_circuit(folder / "circuit.json")


def with_settings(circuit):
    return dataclasses.replace(circuit, provenance={**circuit.provenance, "pruning": PRUNING})
