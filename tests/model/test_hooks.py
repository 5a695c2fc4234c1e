"""Gates, ablated, patches and captures do what they say, and nothing else."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sparse_jax.inputs import InputError
from sparse_jax.model import forward as model
from sparse_jax.model import sites
from sparse_jax.model.hooks import Hooks, Patch

forward = jax.jit(model.forward, static_argnums=0)


def gates_of(config, value=1.0):
    return {site: jnp.full(shape, value) for site, shape in sites.node_shapes(config).items()}


def test_open_gates_change_nothing(tiny):
    config, params, tokens = tiny
    gates = gates_of(config)
    ablated = {site: gate * 7 for site, gate in gates.items()}
    np.testing.assert_allclose(
        forward(config, params, tokens, Hooks(gates, ablated))[0],
        forward(config, params, tokens)[0],
        atol=1e-5,
    )


@pytest.mark.parametrize("filled", [True, False])
def test_a_closed_gate_puts_its_fill_or_zero_at_every_position(tiny, filled):
    config, params, tokens = tiny
    shapes = sites.node_shapes(config)
    gates = {site: jnp.ones(shape).at[..., 3].set(0) for site, shape in shapes.items()}
    ablated = {site: jnp.arange(np.prod(shape), dtype=float).reshape(shape) for site, shape in shapes.items()}
    hooks = Hooks(gates, ablated if filled else {}, capture=sites.NODE_SITES)
    captured = forward(config, params, tokens, hooks)[1]
    for site, fill in ablated.items():
        found = captured[site][..., 3]
        expected = filled * fill[..., 3].reshape(*fill.shape[:-1], 1, 1)
        np.testing.assert_array_equal(found, np.broadcast_to(expected, found.shape), err_msg=site)


def test_a_closed_gate_changes_the_logits_like_removing_the_weights(tiny):
    config, params, tokens = tiny
    gate = jnp.ones((2, config.d_mlp)).at[1, 5].set(0)
    down = params["layers"]["mlp"]["down"]
    cut = {**down, "kernel": down["kernel"].at[1, 5].set(0)}
    layers = {**params["layers"], "mlp": {**params["layers"]["mlp"], "down": cut}}
    np.testing.assert_allclose(
        forward(config, params, tokens, Hooks({"mlp_neuron": gate}))[0],
        forward(config, {**params, "layers": layers}, tokens)[0],
        atol=1e-5,
    )


def test_the_gradient_of_a_gate_is_that_of_interpolating_node_and_fill(tiny):
    config, params, tokens = tiny
    shape = sites.node_shapes(config)["mlp_neuron"]
    ablated = {"mlp_neuron": jax.random.normal(jax.random.key(0), shape)}

    def loss(gate):
        return forward(config, params, tokens, Hooks({"mlp_neuron": gate}, ablated))[0].var()

    # the last layer's neurons: their gate acts linearly before AbsTopK of mlp_out chooses
    gate, step = jnp.ones(shape), 1e-3
    gradient = jax.grad(loss)(gate)
    for neuron in (0, 17, 40):
        move = jnp.zeros(shape).at[1, neuron].set(step)
        gradient = (loss(gate + move) - loss(gate - move)) / (2 * step)
        np.testing.assert_allclose(gradient[1, neuron], gradient, atol=2e-3, rtol=2e-2)


def test_a_patch_replaces_only_where_it_says(tiny):
    config, params, tokens = tiny
    where = jnp.zeros((2, 1, 10, 1), bool).at[0, 0, 4].set(True)
    hooks = Hooks(patches={"resid_mid": Patch(where, jnp.float32(2.5))}, capture=("resid_mid",))
    found = forward(config, params, tokens, hooks)[1]["resid_mid"]
    plain = forward(config, params, tokens, Hooks(capture=("resid_mid",)))[1]["resid_mid"]
    assert np.all(found[0, :, 4] == 2.5)
    np.testing.assert_allclose(found[:, :, :4], plain[:, :, :4], atol=1e-6)
    assert not np.all(found[1, :, 4] == 2.5)


def test_a_patch_with_the_activations_of_another_run_transplants_it(tiny):
    config, params, tokens = tiny
    other = (tokens + 1) % config.vocab_size
    donor, captured = forward(config, params, other, Hooks(capture=("resid_out",)))
    patch = Patch(jnp.bool_(True), captured["resid_out"])
    logits, _ = forward(config, params, tokens, Hooks(patches={"resid_out": patch}))
    bigram = params["bigram"]["kernel"]
    np.testing.assert_allclose(logits - bigram[tokens], donor - bigram[other], atol=1e-5)


def test_hooks_vmap_over_lanes(tiny):
    config, params, tokens = tiny
    lanes = jnp.ones((2, 2, config.d_mlp)).at[1].set(0)
    logits = jax.vmap(lambda gate: forward(config, params, tokens, Hooks({"mlp_neuron": gate}))[0])(lanes)
    np.testing.assert_allclose(logits[0], forward(config, params, tokens)[0], atol=1e-5)
    assert np.abs(logits[1] - logits[0]).max() > 1e-3


@pytest.mark.parametrize(
    ("hooks", "said"),
    [
        (Hooks(capture=("mlp_neurons",)), "hooks.capture: 'mlp_neurons' is unknown; did you mean"),
        (Hooks({"resid_mid": jnp.ones(16)}), "hooks.gates: 'resid_mid' has no nodes"),
        (Hooks({"q": jnp.ones((2, 15))}), r"hooks.gates['q']: shape (2, 15); valid: (2, 16)"),
        (Hooks(ablated={"q": jnp.ones((2, 16))}), "hooks.ablated['q']: no gate there"),
        (Hooks(patches={"pattern": Patch(jnp.bool_(True), jnp.ones(1))}), "hooks.patches: 'pattern'"),
    ],
)
def test_hooks_that_do_not_fit_are_refused(tiny, hooks, said):
    config, params, tokens = tiny
    with pytest.raises(InputError) as error:
        forward(config, params, tokens, hooks)
    assert said in str(error.value)
