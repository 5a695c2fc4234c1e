"""Counts from gates against the circuits that the gates leave."""

import numpy as np
import pytest

from sparse_jax.circuits.edges import (
    count_edges,
    count_nodes,
    edges_by_size,
    find_edges,
    incident_edges,
    kept_nodes,
)
from sparse_jax.circuits.gates import only_between_open
from sparse_jax.circuits.ranking import number_units
from sparse_jax.model import sites
from tests.pruning.noisy import CONFIG, noisy, random_gates


def circuit(gates):
    nodes = kept_nodes(gates, gates, gates, CONFIG.n_layers)
    return nodes, find_edges(noisy().params, nodes, gates)


@pytest.mark.parametrize("edges", [False, True])
def test_counts_are_those_of_the_circuit(edges):
    gates = only_between_open(random_gates(3, edges=edges))
    nodes, found = circuit(gates)
    assert count_nodes(gates) == len(nodes) and count_edges(noisy().params, gates) == len(found) > 20
    incident = incident_edges(noisy().params, gates)
    for number, node in enumerate(nodes):
        ends = sum(number in (edge.source, edge.target) for edge in found)
        assert incident[node.site][node.layer, node.index] == ends
    if edges:
        assert sum(incident[key].sum() for key in sites.edge_shapes(CONFIG)) == len(found)


@pytest.mark.parametrize("ranked", [sites.LAYER_SITES, tuple(sites.edge_shapes(CONFIG))])
def test_edges_by_size_are_those_of_each_prefix(ranked):
    gates = random_gates(4, edges=True)
    units = number_units({key: gates[key] for key in ranked}, tied=False)
    ranks = units.ranks(np.random.default_rng(0).permutation(units.count))
    found = edges_by_size(noisy().params, gates, ranks, units.count)
    assert len(found) == units.count + 1
    for k in range(0, units.count + 1, 7):
        opened = {key: gate * (ranks[key] < k) if key in ranks else gate for key, gate in gates.items()}
        assert found[k] == count_edges(noisy().params, opened)
