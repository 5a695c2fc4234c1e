"""Nodes by name: what each names, and what is said of those that do not exist."""

import doctest

import numpy as np
import pytest

from sparse_jax.inputs import InputError
from sparse_jax.model import nodes
from sparse_jax.model.config import ModelConfig

CONFIG = ModelConfig(vocab_size=8, context=8, n_layers=2, d_model=16)


def test_the_examples_run():
    assert doctest.testmod(nodes).attempted > 0
    assert doctest.testmod(nodes).failed == 0


def test_a_selection_is_the_union_of_what_is_named():
    chosen = nodes.select(CONFIG, ["1.mlp_neuron.17", "0.mlp_neuron", "q", "2.final_resid.3", "embed"])
    assert sorted(chosen) == ["embed", "final_resid", "mlp_neuron", "q"]
    assert chosen["mlp_neuron"][0].all() and np.flatnonzero(chosen["mlp_neuron"][1]).tolist() == [17]
    assert chosen["q"].all() and chosen["q"].shape == (2, 16)
    assert np.flatnonzero(chosen["final_resid"]).tolist() == [3]
    assert chosen["embed"].all() and chosen["embed"].shape == (16,)


@pytest.mark.parametrize(
    "name, said",
    [
        ("2.q.0", "no layer 2; valid: 0 to 1"),
        ("1.q.16", "no channel 16; valid: 0 to 15"),
        ("1.mlp_neurons.0", "did you mean 'mlp_neuron'"),
        ("1.final_resid.0", "outside the layers; valid: 2.final_resid"),
        ("q.1", "no site '1'|not a node"),
        ("one.q.0", "not a node"),
        ("1.q.0.0", "not a node"),
        ("", "no site ''"),
    ],
)
def test_what_does_not_exist_is_named(name, said):
    with pytest.raises(InputError, match=said):
        nodes.parse_node(CONFIG, name)


def test_closed_nodes_carry_their_mean_or_zero():
    means = {"q": np.arange(32.0).reshape(2, 16), "embed": np.arange(16.0)}
    gates, ablated = nodes.close(CONFIG, {"q": "mean", "1.q.3": "zero", "0.embed.5": "mean"}, means)
    assert sorted(gates) == sorted(ablated) == ["embed", "q"]
    assert gates["q"].dtype == ablated["q"].dtype == np.float32 and (gates["q"] == 0).all()
    expected = means["q"].copy()
    expected[1, 3] = 0
    np.testing.assert_array_equal(ablated["q"], expected)
    assert np.flatnonzero(gates["embed"] == 0).tolist() == [5]
    np.testing.assert_array_equal(ablated["embed"], np.where(np.arange(16) == 5, 5, 0))


def test_a_list_of_nodes_or_a_site_is_ablated_to_the_mean():
    means = {"mlp_neuron": np.full((2, 64), 0.5)}
    for names in ("mlp_neuron", ["0.mlp_neuron", "1.mlp_neuron"]):
        gates, ablated = nodes.close(CONFIG, names, means)
        assert not gates["mlp_neuron"].any() and (ablated["mlp_neuron"] == 0.5).all()


@pytest.mark.parametrize(
    "names, means, said",
    [
        ({"q": "median"}, {}, r"ablate\['q'\]: 'median' is unknown"),
        (["1.q.3"], None, r"ablate\['1.q.3'\]: no means of 'q' are given; valid: 'zero'$"),
        (["1.q.3"], {"k": np.ones((2, 16))}, "valid: 'zero', or nodes of k"),
        ("q", {"q": np.ones(16)}, r"means\['q'\]: shape \(16,\); valid: \(2, 16\)"),
    ],
)
def test_what_cannot_be_ablated_is_named(names, means, said):
    with pytest.raises(InputError, match=said):
        nodes.close(CONFIG, names, means)
