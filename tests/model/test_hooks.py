"""Gates, ablation values, additions, patches and captures do what they say, and nothing else."""

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
def test_a_closed_gate_puts_its_ablation_value_or_zero_at_every_position(tiny, filled):
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


def test_the_gradient_of_a_gate_is_that_of_interpolating_node_and_ablation_value(tiny):
    config, params, tokens = tiny
    shape = sites.node_shapes(config)["mlp_neuron"]
    ablated = {"mlp_neuron": jax.random.normal(jax.random.key(0), shape)}

    @jax.jit
    @jax.value_and_grad
    def run(gate, params):
        return forward(config, params, tokens, Hooks({"mlp_neuron": gate}, ablated))[0].var()

    # the last layer's neurons: their gate acts linearly before AbsTopK of mlp_out chooses
    gate, step = np.ones(shape, np.float32), np.float32(1e-3)
    gradient = run(gate, params)[1]
    for neuron in (0, 17, 40):
        move = np.zeros(shape, np.float32)
        move[1, neuron] = step
        difference = (run(gate + move, params)[0] - run(gate - move, params)[0]) / (2 * step)
        np.testing.assert_allclose(gradient[1, neuron], difference, atol=2e-3, rtol=2e-2)


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
        (Hooks(ablated={"q": jnp.ones((2, 16))}), "hooks.ablated['q']: no gate at this site"),
        (Hooks(patches={"pattern": Patch(jnp.bool_(True), jnp.ones(1))}), "hooks.patches: 'pattern'"),
    ],
)
def test_hooks_that_do_not_fit_are_refused(tiny, hooks, said):
    config, params, tokens = tiny
    with pytest.raises(InputError) as error:
        forward(config, params, tokens, hooks)
    assert said in str(error.value)


def test_an_addition_is_a_patch_of_the_value_and_more(tiny):
    config, params, tokens = tiny
    names = ("embed", "resid_in", "v", "mlp_neuron", "heads", "resid_out", "final_resid")
    values = forward(config, params, tokens, Hooks(capture=names))[1]
    # every site is patched nowhere and has 0 added, so that one program serves all of them
    patches = {site: Patch(np.zeros(value.shape, bool), value) for site, value in values.items()}
    additions = {site: np.zeros(value.shape, np.float32) for site, value in values.items()}

    def changed(patch, add):
        hooks = Hooks(patches={**patches, **patch}, additions={**additions, **add}, capture=names)
        return forward(config, params, tokens, hooks)

    for site, value in values.items():
        # the same vector at the last position of every sequence
        added = np.zeros(value.shape, np.float32)
        added[..., -1, :] = np.linspace(-1, 1, value.shape[-1])
        if value.ndim == 4:
            added[1] = 0  # in the first layer alone, whose own value it does not change
        patched = value + added
        expected = changed({site: Patch(added != 0, patched)}, {})[0]
        found, captured = changed({}, {site: added})
        np.testing.assert_allclose(found, expected, atol=1e-5, err_msg=site)
        if site == "v":
            for hooks in (
                Hooks(additions={site: added}),
                Hooks(patches={site: Patch(added != 0, patched)}),
            ):
                alone = forward(config, params, tokens, hooks)[0]
                np.testing.assert_allclose(alone, expected, atol=1e-5)
        first = captured[site][0] if value.ndim == 4 else captured[site]
        np.testing.assert_allclose(first, patched[0] if value.ndim == 4 else patched, atol=1e-6, err_msg=site)


def test_a_patch_of_single_tokens_reaches_the_logits_that_are_asked_for(tiny):
    config, params, tokens = tiny
    at, where = np.array([9, 4, 6]), np.arange(10)[:, None] == np.array([4])
    plain = np.asarray(forward(config, params, tokens)[0])[np.arange(3), at]
    value = np.linspace(-1, 2, 16)
    # nothing is patched at the other site: the same programs for both
    nowhere = dict.fromkeys(("final_resid", "resid_out"), Patch(np.zeros_like(where), value))
    for site in nowhere:
        hooks = Hooks(patches={**nowhere, site: Patch(where, value)})
        logits = np.asarray(forward(config, params, tokens, hooks)[0])[np.arange(3), at]
        np.testing.assert_allclose(forward(config, params, tokens, hooks, at)[0], logits, atol=2e-5)
        assert (np.abs(logits - plain).max(axis=1) > 1e-2)[1]


def test_additions_have_gradients_and_vmap_over_lanes(tiny):
    config, params, tokens = tiny

    def loss(added, params):
        hooks = Hooks(additions={"resid_out": added})
        return forward(config, params, tokens, hooks)[0][:, -1].var()

    # of the last layer: nothing behind it chooses
    lanes = np.zeros((2, 2, 1, 1, 16), np.float32)
    lanes[1, 1, 0, 0, 3] = 1e-2
    run = jax.jit(jax.vmap(jax.value_and_grad(loss), in_axes=(0, None)))
    losses, gradients = jax.device_get(run(lanes, params))
    average = (gradients[0] + gradients[1])[1, 0, 0, 3] / 2
    assert abs(losses[1] - losses[0]) > 1e-5
    np.testing.assert_allclose((losses[1] - losses[0]) / 1e-2, average, rtol=2e-2)


def test_a_directional_derivative_is_the_reverse_mode_transposed(tiny):
    config, params, tokens = tiny
    direction = np.random.default_rng(0).normal(size=(2, 3, 10, 16)).astype(np.float32)
    # where no choice of AbsTopK lies behind, finite differences hold
    direction[0] = 0

    def logits(added):
        return forward(config, params, tokens, Hooks(additions={"resid_out": added}))[0]

    with pytest.raises(TypeError, match="forward-mode .*custom_vjp"):
        jax.jvp(logits, (0 * direction,), (direction,))
    y, pull = jax.vjp(logits, 0 * direction)
    (found,) = jax.linear_transpose(lambda gradient: pull(gradient)[0], y)(direction)
    expected = (logits(5e-3 * direction) - logits(-5e-3 * direction)) / 1e-2
    np.testing.assert_allclose(found, expected, atol=1e-2 * np.abs(expected).max())


@pytest.mark.parametrize("site", ["resid_mid", "final_resid", "q"])
def test_an_addition_reaches_the_logits_that_are_asked_for(tiny, site):
    config, params, tokens = tiny
    at = np.array([9, 4, 6])
    vector = np.linspace(-1, 2, 16, dtype=np.float32)
    per_token = np.tile(vector, (3, 10, 1))
    for value in (vector, per_token):
        # 0 is added at the other sites: the same programs for all
        others = dict.fromkeys(("resid_mid", "q", "final_resid"), np.zeros_like(value))
        hooks = Hooks(additions={**others, site: value})
        logits = np.asarray(forward(config, params, tokens, hooks)[0])
        found = forward(config, params, tokens, hooks, at)[0]
        np.testing.assert_allclose(found, logits[np.arange(3), at], atol=2e-5)
    assert np.abs(logits - forward(config, params, tokens)[0]).max() > 1e-2


def test_a_gate_closes_before_something_is_added(tiny):
    config, params, tokens = tiny
    gates = {"q": jnp.zeros((2, 16))}
    hooks = Hooks(gates, additions={"q": np.float32(0.25)}, capture=("q",))
    np.testing.assert_array_equal(forward(config, params, tokens, hooks)[1]["q"], 0.25)


@pytest.mark.parametrize(
    "hooks, said",
    [
        (Hooks(additions={"q": np.zeros(15)}), r"hooks.additions\['q'\]: shape \(15,\); valid: .*3, 10, 16"),
        (Hooks(additions={"embed": np.zeros((2, 3, 10, 16))}), r"hooks.additions\['embed'\]: shape"),
        (Hooks(additions={"pattern": np.zeros(10)}), "hooks.additions: 'pattern' is unknown"),
        (Hooks(patches={"q": Patch(np.ones(16) > 0, np.ones((4, 10, 16)))}), r"patches\['q'\].value: shape"),
        (Hooks(patches={"q": Patch(np.ones(9) > 0, np.float32(1))}), r"patches\['q'\].where: shape"),
    ],
)
def test_values_that_do_not_fit_a_site_are_refused(tiny, hooks, said):
    config, params, tokens = tiny
    with pytest.raises(InputError, match=said):
        forward(config, params, tokens, hooks)
