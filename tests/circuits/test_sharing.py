"""What circuits share, against hand-made circuits, and chance, against all random circuits there are."""

import itertools
import math

import numpy as np
import pytest

from sparse_jax.circuits.graph import Circuit, Edge, Node
from sparse_jax.circuits.sharing import (
    Channel,
    chance,
    edge_items,
    jaccard,
    node_items,
    residual_channels,
    sizes_of_model,
    uses,
    uses_by_chance,
)
from sparse_jax.inputs import InputError
from sparse_jax.model import sites

A, B = (0, "mlp_in"), (0, "mlp_neuron")
SIZES = {A: 4, B: 3}


def circuit(places, edges=(), tied=True):
    nodes = tuple(Node(*place) for place in places)
    found = tuple(Edge(*edge, 1.0) for edge in edges)
    about = {"pruning": {"tied_qk": tied}}
    return Circuit(nodes, found, sites.LAYER_SITES, {}, {}, {}, about)


ONE = circuit(
    [(0, "attn_in", 5), (0, "q", 1), (0, "k", 1), (0, "v", 2), (0, "attn_out", 7), (1, "mlp_in", 7)],
    [(0, 1), (0, 3), (3, 4)],
)
OTHER = circuit(
    [(0, "attn_in", 5), (0, "v", 2), (0, "v", 3), (0, "attn_out", 7), (0, "mlp_out", 7)],
    [(0, 1), (1, 3), (2, 3)],
)


def items(*places):
    return frozenset((group, (index,)) for group, index in places)


def test_nodes_and_edges_of_two_circuits_counted_by_hand():
    """A tied key is its query's; without ties it counts."""
    assert len(node_items(ONE)) == 5 and len(node_items(circuit([(0, "q", 1), (0, "k", 1)], tied=False))) == 2
    assert jaccard(node_items(ONE), node_items(OTHER)) == 3 / 7  # attn_in 5, v 2, attn_out 7
    assert jaccard(edge_items(ONE), edge_items(OTHER)) == 2 / 4  # into v 2 and out of it
    assert jaccard(frozenset(), frozenset()) is None
    assert sorted(uses([node_items(ONE), node_items(OTHER)]).values()) == [1, 1, 1, 1, 2, 2, 2]


def test_channels_counted_by_hand():
    assert residual_channels([ONE, OTHER]) == [
        # attn_out 7 and mlp_out 7 write it, from v 2 and v 3; mlp_in 7 of layer 1 reads it
        Channel(7, writers=2, readers=1, sources=2, targets=0, writing=2, reading=1, tasks=2),
        Channel(5, writers=0, readers=1, sources=0, targets=2, writing=0, reading=2, tasks=2),
    ]


def everywhere(count_a, count_b):
    """All circuits with so many items of both groups."""
    for chosen in itertools.product(
        itertools.combinations(range(4), count_a), itertools.combinations(range(3), count_b)
    ):
        yield items(*((A, i) for i in chosen[0]), *((B, i) for i in chosen[1]))


def test_chance_is_the_mean_over_all_random_circuits():
    """By enumeration; and n m / N, the hypergeometric mean, summed over groups."""
    given, other = items((A, 0), (A, 1), (B, 0)), items((A, 0), (A, 2), (A, 3), (B, 1), (B, 2))
    all_others = list(everywhere(3, 2))
    found = chance(given, other, SIZES)
    assert found.common == pytest.approx(2 * 3 / 4 + 1 * 2 / 3)
    assert found.common == pytest.approx(np.mean([len(given & one) for one in all_others]))
    assert found.jaccard == pytest.approx(np.mean([jaccard(given, one) for one in all_others]))


def test_uses_by_chance_are_the_mean_over_all_random_circuits():
    circuits = [next(everywhere(2, 1)), next(everywhere(3, 0))]
    seen = np.zeros(3)
    draws = list(itertools.product(everywhere(2, 1), everywhere(3, 0)))
    for drawn in draws:
        counts = uses(drawn)
        seen += np.bincount(
            [counts[group, (i,)] for group, size in SIZES.items() for i in range(size)], minlength=3
        )
    assert uses_by_chance(circuits, SIZES) == pytest.approx(seen / len(draws))
    assert seen.sum() / len(draws) == sum(SIZES.values())


def test_sizes_are_channels_and_nonzero_weights():
    kernels = {("attn", name): np.ones((1, 3, 2)) for name in ("q", "k", "v")}
    kernels |= {
        ("attn", "out"): np.ones((1, 2, 3)),
        ("mlp", "up"): np.ones((1, 3, 4)),
        ("mlp", "down"): np.ones((1, 4, 3)),
    }
    kernels["mlp", "up"][0, :2] = 0
    layers = {
        name: {matrix: {"kernel": k} for (sub, matrix), k in kernels.items() if sub == name}
        for name in ("attn", "mlp")
    }
    sizes = sizes_of_model({"layers": layers, "embed": {"kernel": np.ones((9, 3))}})
    assert sizes[0, "embed"] == sizes[1, "final_resid"] == 3
    assert sizes[0, "mlp_in"] == 3 and sizes[0, "mlp_neuron"] == 4 and sizes[0, "attn_out"] == 3
    assert sizes[0, "mlp_in->mlp_neuron"] == 4 and sizes[0, "v->attn_out"] == 6


def test_a_circuit_larger_than_the_model_is_refused():
    with pytest.raises(InputError, match=r"items of \(0, 'mlp_neuron'\): 4 is not valid; valid: at most 3"):
        chance(items(*((B, i) for i in range(4))), items((A, 0)), SIZES)
    with pytest.raises(InputError, match="circuits: 'without items'"):
        chance(frozenset(), frozenset(), SIZES)
    assert math.isfinite(chance(items((A, 0)), frozenset(), SIZES).jaccard)
