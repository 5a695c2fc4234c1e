"""The step, its gradient, and moving between arrays by site and one vector."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import scipy.special

from sparse_jax.circuits.gates import by_kind, count, flatten, tie, unflatten
from sparse_jax.pruning import logits as drawing
from sparse_jax.pruning.lanes import make_lanes
from sparse_jax.pruning.logits import initial_logits, logit_shapes, open_gates, sampled_gates, step_gate
from sparse_jax.pruning.prepare import new_states
from tests.planted import CONFIG, PRUNE


def test_the_gate_is_a_step_that_is_open_at_zero():
    np.testing.assert_array_equal(step_gate(jnp.array([-0.5, -1e-9, 0.0, 0.3])), [0, 0, 1, 1])


def test_its_slope_is_that_of_a_logistic_function():
    tau = jnp.array([-1.0, 0.0, 0.4])
    for temperature in (1.0, 0.5):
        gradient = jax.vmap(jax.grad(step_gate), (0, None))(tau, temperature)
        above, below = (scipy.special.expit((tau + h) / temperature) for h in (1e-2, -1e-2))
        np.testing.assert_allclose(gradient, (above - below) / 2e-2, rtol=1e-3)


def test_initial_logits_are_normal_and_the_same_for_the_same_key():
    shapes = logit_shapes(CONFIG, ("q", "mlp_in"), tied_qk=True)
    logits = initial_logits(shapes, jax.random.key(0), 0.1, 0.01)
    again = initial_logits(shapes, jax.random.key(0), 0.1, 0.01)
    values = flatten(logits)
    assert values.shape == (16,) and abs(values.mean() - 0.1) < 0.01 and 0.004 < values.std() < 0.02
    np.testing.assert_array_equal(values, flatten(again))
    assert count(open_gates(logits, 1.0)) == 16


def test_flatten_and_back():
    shapes = {"q": (1, 8), "mlp_in->mlp_neuron": (1, 8, 8), "final_resid": (8,)}
    logits = initial_logits(shapes, jax.random.key(0), 0.0, 1.0)
    back = unflatten(flatten(logits), logits)
    assert jax.tree.all(jax.tree.map(lambda a, b: bool((a == b).all()), logits, back))


def test_tied_q_and_k_have_one_gate_that_counts_as_two_nodes():
    shapes = logit_shapes(CONFIG, ("q", "k", "mlp_in"), tied_qk=True)
    assert set(shapes) == {"q", "mlp_in"}
    assert set(logit_shapes(CONFIG, ("q", "k", "mlp_in"), tied_qk=False)) == {"q", "k", "mlp_in"}
    logits = {"q": jnp.array([[0.1, -0.1, 0.2]]), "mlp_in": jnp.array([[-1.0, 1.0]])}
    tied = open_gates(logits, 1.0, tied_qk=True)
    np.testing.assert_array_equal(tied["k"], [[1, 0, 1]])
    assert count(tied) == 5 and count(open_gates(logits, 1.0)) == 3
    assert set(tie(logits)) == {"q", "k", "mlp_in"} and set(tie({"mlp_in": 0})) == {"mlp_in"}
    # both ends of the tie pull at the one logit
    gradient = jax.grad(lambda tau: count(open_gates({"q": tau}, 1.0, tied_qk=True)))(jnp.zeros((1, 1)))
    np.testing.assert_allclose(gradient, [[2 / 4]])


def test_gates_of_nodes_and_edges_are_told_apart():
    nodes, edges = by_kind({"v": 1, "v->attn_out": 2, "final_resid": 3})
    assert nodes == {"v": 1, "final_resid": 3} and edges == {"v->attn_out": 2}


def test_hard_concrete_gates_are_tied_and_their_chances_are_those_of_their_draws():
    """The mean number of open gates over draws is the sum of the probabilities; noise comes from the key."""
    logits = {"q": jnp.linspace(-0.6, 0.3, 12)[None], "mlp_in": jnp.array([[-1.0, 1.0]])}
    draw = jax.vmap(lambda key: sampled_gates(logits, 1.0, key, tied_qk=True))
    gates, chances = draw(jax.random.split(jax.random.key(0), 4000))
    np.testing.assert_array_equal(gates["q"], gates["k"])
    assert set(chances) == {"q", "k", "mlp_in"}
    for name in ("q", "mlp_in"):
        np.testing.assert_allclose((gates[name] > 0).mean(axis=0), chances[name][0], atol=0.03)
    assert chances["mlp_in"][0, 0, 0] < 0.01 and chances["mlp_in"][0, 0, 1] > 0.99
    assert (np.diff(chances["q"][0, 0]) > 0).all()  # a higher logit is an opener gate
    again, _ = draw(jax.random.split(jax.random.key(0), 4000))
    np.testing.assert_array_equal(gates["q"], again["q"])


def test_lanes_begin_with_their_own_draws_which_take_one_program_for_each_shape():
    config, lanes = dataclasses.replace(CONFIG, n_layers=3, d_mlp=24), make_lanes(PRUNE, 3)
    before = drawing._normal._cache_size()
    found = new_states(config, PRUNE, lanes).logits
    assert drawing._normal._cache_size() - before == len({logits.shape for logits in found.values()}) == 2
    assert len(found) > 4 and all(len(logits) == 3 for logits in found.values())
    assert all(np.ptp(logits, axis=0).min() > 0 for logits in found.values())
