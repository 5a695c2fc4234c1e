"""A run from a value of the residual stream is the rest of the full run, from every location."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sparse_jax.bridges.hybrid import channel_of, location_number, locations, run, run_from
from sparse_jax.inputs import InputError
from sparse_jax.model.forward import forward
from sparse_jax.model.hooks import Hooks, Patch
from tests.bridges.pairs import DENSE, SPARSE, model, some_tokens


@pytest.mark.parametrize("config", [SPARSE, DENSE, dataclasses.replace(DENSE, tied_embedding=True)])
def test_a_run_from_what_is_there_is_the_full_run(config):
    tokens = some_tokens()

    @jax.jit
    def runs(params):
        logits, stream = run(config, params, tokens)
        rest = [run_from(config, params, tokens, number, x) for number, x in enumerate(stream)]
        return logits, stream, rest, forward(config, params, tokens)[0]

    logits, stream, rest, expected = jax.device_get(runs(model(config).params))
    assert len(stream) == 5
    np.testing.assert_array_equal(logits, expected)
    for number, (again, after) in enumerate(rest):
        np.testing.assert_allclose(again, logits, atol=1e-5)
        assert len(after) == 5 - number
        for found, expected in zip(after, stream[number:]):
            np.testing.assert_allclose(found, expected, atol=1e-5)


def with_gradient(function, params):
    def squares(params):
        logits = function(params)
        return jnp.square(logits).sum(), logits

    gradient, logits = jax.grad(squares, has_aux=True)(params)
    return logits, gradient


@jax.jit
def patched(params, hooks):
    """Logits and gradients of a full run."""
    return with_gradient(lambda params: forward(SPARSE, params, some_tokens(), hooks)[0], params)


# the ends, and one inside of a layer; the others in the same way
@pytest.mark.parametrize("number", [0, *(pytest.param(n, marks=pytest.mark.slow) for n in (1, 2)), 3, 4])
def test_another_value_changes_what_a_patch_of_the_whole_model_changes(number):
    """The reference computes all layers and replaces the stream on its way."""
    tokens = some_tokens()
    x = np.random.default_rng(number).normal(size=(3, 8, 8)).astype(np.float32)
    place, places = locations(SPARSE)[number], {}
    for site in ("resid_in", "resid_mid", "final_resid"):  # of every number, so that one program serves all
        layers = np.arange(2).reshape(2, 1, 1, 1) == place.layer if site != "final_resid" else np.array(True)
        places[site] = Patch(layers & (site == place.site), x)

    def from_there(params):
        return run_from(SPARSE, params, tokens, number, x)[0]

    params = model(SPARSE).params
    found, of_found = jax.jit(lambda params: with_gradient(from_there, params))(params)
    expected, of_expected = patched(params, Hooks(patches=places))
    np.testing.assert_allclose(found, expected, atol=1e-5)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-3), of_found, of_expected)


def test_locations_and_the_nodes_that_read_there_have_names():
    names = [place.name for place in locations(SPARSE)]
    assert names == ["0.resid_in", "0.resid_mid", "1.resid_in", "1.resid_mid", "2.final_resid"]
    assert channel_of(SPARSE, "1.attn_in.3") == (2, 3)
    assert channel_of(SPARSE, "0.mlp_in.7") == (1, 7)
    assert channel_of(SPARSE, "2.final_resid.0") == (4, 0)
    for node, said in (
        ("1.mlp_neuron.3", "reads no single residual channel"),
        ("attn_in.3", "node 'attn_in.3'"),
        ("1.attn_in.8", "no channel 8"),
        ("1.atn_in.3", "did you mean 'attn_in'"),
    ):
        with pytest.raises(InputError, match=said):
            channel_of(SPARSE, node)
    with pytest.raises(InputError, match="location '3.resid_mid': no bridge there"):
        location_number(SPARSE, "3.resid_mid")
