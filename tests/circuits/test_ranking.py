"""Units and ranks on gates small enough to read."""

import numpy as np

from sparse_jax.circuits.gates import close, only_between_open
from sparse_jax.circuits.ranking import number_units

ELIGIBLE = {"q": np.array([[1, 0, 1]]), "k": np.array([[1, 0, 1]]), "attn_in": np.array([[0, 1]])}


def test_units_are_numbered_by_name_and_place_and_tied_channels_are_one():
    apart = number_units(ELIGIBLE, tied=False)
    assert apart.count == 5
    assert apart.numbers["attn_in"].tolist() == [[-1, 0]]
    assert apart.numbers["k"].tolist() == [[1, -1, 2]] and apart.numbers["q"].tolist() == [[3, -1, 4]]
    tied = number_units(ELIGIBLE, tied=True)
    assert tied.count == 3 and tied.numbers["k"].tolist() == tied.numbers["q"].tolist() == [[1, -1, 2]]


def test_ranks_and_totals():
    units = number_units(ELIGIBLE, tied=True)
    ranks = units.ranks(np.array([2, 0]))  # unit 1 has no place
    assert ranks["attn_in"].tolist() == [[-1, 1]] and ranks["k"].tolist() == [[-1, -1, 0]]
    values = {"q": np.array([[1.0, 9, 2]]), "k": np.array([[10.0, 9, 20]]), "other": np.ones(4)}
    assert units.totals(values).tolist() == [0, 11, 22]


def test_blocks_are_runs_of_the_order():
    units = number_units({"mlp_in": np.array([[1, 1, 0, 1, 1, 1]])}, tied=True)
    blocks = units.blocks(np.array([4, 2, 0, 1, 3]), 2)
    assert blocks.count == 3
    assert blocks.numbers["mlp_in"].tolist() == [[1, 1, -1, 0, 2, 0]]


def test_edges_are_closed_only_between_open_nodes():
    gates = {"mlp_in": np.array([[1.0, 0.0]]), "mlp_neuron": np.array([[1.0, 0.0, 1.0]])}
    gates["mlp_in->mlp_neuron"] = np.array([[[0.0, 0.0, 1.0], [0.0, 0.0, 1.0]]])
    found = only_between_open(gates)
    assert found["mlp_in->mlp_neuron"].tolist() == [[[0, 1, 1], [1, 1, 1]]]
    assert found["mlp_in"] is gates["mlp_in"]
    # closing a node opens its edges
    closed = close(gates, {"mlp_in": np.array([[True, False]])})
    assert closed["mlp_in"].tolist() == [[0, 0]] and closed["mlp_in->mlp_neuron"].min() == 1
    assert only_between_open({"v->attn_out": gates["mlp_in"]})["v->attn_out"] is gates["mlp_in"]
