"""With only some positions asked for, the last layer computes those alone and nothing else changes."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sparse_jax.model import sites
from sparse_jax.model.forward import forward
from sparse_jax.model.hooks import Hooks, Patch
from tests import compiled
from tests.model.conftest import scaled_params

AT = np.array([0, 9, 4])


def gates_and_ablated(config, tokens):
    """Half of the gates closed; some ablated are one for all tokens, some are of each token."""
    shapes, rng = sites.node_shapes(config), np.random.default_rng(3)
    gates = {site: (rng.random(shape) > 0.4).astype(np.float32) for site, shape in shapes.items()}
    ablated = {}
    for site, shape in shapes.items():
        if site in ("q", "v", "mlp_neuron", "final_resid"):
            shape = (*shape[:-1], *tokens.shape, shape[-1])
        ablated[site] = rng.normal(size=shape).astype(np.float32)
    return gates, ablated


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"n_layers": 1, "unroll": True}, marks=pytest.mark.slow),
        pytest.param(
            {"n_layers": 3, "remat": True, "unroll": True, "attention_sink": False}, marks=pytest.mark.slow
        ),
        {"positions": "concatenated", "d_position": 4},
        pytest.param(
            {"positions": "added", "residual_activation": "relu", "norm": "layer"}, marks=pytest.mark.slow
        ),
    ],
)
def test_logits_and_gradients_are_those_of_the_full_computation(tiny, changes):
    config, _, tokens = tiny
    config = dataclasses.replace(config, **changes)
    params = scaled_params(config, 2)
    gates, ablated = gates_and_ablated(config, tokens)

    weights = np.random.default_rng(4).normal(size=(3, config.vocab_size)).astype(np.float32)

    def asked(gates, params):
        return forward(config, params, tokens, Hooks(gates, ablated), at_B=AT)[0]

    def whole(gates, params):
        return forward(config, params, tokens, Hooks(gates, ablated))[0][np.arange(3), AT]

    def logits_and_gradients(run):
        def weighed(gates, params):
            logits = run(gates, params)
            return (logits * weights).sum(), logits

        # parameters that are constants would be computed with while compiling, slowly
        gradients, logits = jax.jit(jax.grad(weighed, has_aux=True))(gates, params)
        return logits, gradients

    (logits, gradients), (expected, expected_gradients) = (
        logits_and_gradients(asked),
        logits_and_gradients(whole),
    )
    np.testing.assert_allclose(logits, expected, atol=1e-4)
    for site in gates:
        np.testing.assert_allclose(gradients[site], expected_gradients[site], atol=2e-3, err_msg=site)
        assert np.abs(gradients[site]).max() > 1e-3, site


def test_the_last_layer_is_computed_at_the_asked_positions_only(tiny):
    config, params, tokens = tiny

    def flops(hooks, at):
        unrolled = dataclasses.replace(config, unroll=True)
        run = compiled.forward.lower(unrolled, params, tokens, hooks, at)
        return run.compile().cost_analysis()["flops"]

    every = flops(Hooks(), None)
    assert flops(Hooks(), AT) < 0.7 * every
    # a patch may be at any position
    patch = Hooks(patches={"mlp_out": Patch(jnp.bool_(False), jnp.zeros(1))})
    assert flops(patch, AT) > 0.85 * every


def test_captures_hold_all_positions(tiny):
    config, params, tokens = tiny
    names = (*sites.NODE_SITES, "resid_out", "pattern")
    captured = compiled.forward(config, params, tokens, Hooks(capture=names), at_B=AT)[1]
    whole = jax.device_get(compiled.forward(config, params, tokens, Hooks(capture=names))[1])
    for site, x in captured.items():
        expected = whole[site][np.arange(3), AT] if site == "final_resid" else whole[site]
        np.testing.assert_allclose(x, expected, atol=1e-4, err_msg=site)
