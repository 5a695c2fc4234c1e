import pytest

from sparse_jax.circuits.graph import Circuit, Edge, Node


@pytest.fixture
def build_circuit():
    """Makes a circuit of nodes and edges; the other fields are empty unless given."""

    def build(nodes, edges, **fields):
        empty = {"sites": (), "counts": {}, "losses": {}, "calibration": {}, "provenance": {}}
        return Circuit(tuple(nodes), tuple(edges), **(empty | fields))

    return build


@pytest.fixture
def circuit(build_circuit):
    """A neuron that reads two channels and writes one that the next layer reads; nodes out of order."""
    nodes = [
        Node(1, "attn_in", 3, mean=0.25, score=0.9),
        Node(0, "mlp_neuron", 7, mean=-1.5, score=0.5),
        Node(0, "mlp_in", 4, mean=0.125, score=0.8),
        Node(0, "mlp_in", 2, mean=float("nan"), score=0.7),
        Node(0, "mlp_out", 3, mean=0.0, score=0.6),
    ]
    edges = [Edge(2, 1, 0.5), Edge(3, 1, -2.0), Edge(1, 4, 1.0 / 3.0)]
    return build_circuit(
        nodes, edges, counts={"bias": 2}, losses={"circuit": 0.14}, provenance={"model": "tiny"}
    )
