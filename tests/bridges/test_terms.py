"""The loss of bridges against planted bridges, sums by hand, and finite differences."""

import dataclasses

import jax
import numpy as np
import pytest

from sparse_jax.bridges.config import TERMS, BridgeConfig, BridgeRun
from sparse_jax.bridges.maps import check_bridges, decode, encode
from sparse_jax.bridges.terms import bridge_loss, divergence, loss_terms, nmse
from sparse_jax.data.config import data_config
from sparse_jax.inputs import InputError
from sparse_jax.sparsity.config import SparsityConfig
from sparse_jax.training.config import TrainConfig
from sparse_jax.training.loss import next_token_loss
from sparse_jax.training.optimizer import OptimizerConfig
from tests.bridges.pairs import DENSE, SPARSE, exact_pair, random_pair, some_tokens

DATA = data_config({"sources": {"simple": {"kind": "simple_python"}}})


def run_of(pair, **settings):
    fraction = pair.kept / pair.sparse.config.d_model
    settings = BridgeConfig(encoder_fraction=fraction, **settings)
    return BridgeRun(pair.sparse.config, SparsityConfig(), OptimizerConfig(), DATA, TrainConfig(), settings)


def params_of(pair):
    return {"sparse": pair.sparse.params, "bridges": pair.bridges}


def terms_of(pair, **settings):
    """A compiled function of the parameters."""
    config, tokens = run_of(pair, **settings), some_tokens(length=9)
    # what is constant would be computed with while compiling, slowly
    run = jax.jit(lambda params, dense, tokens: loss_terms(config, pair.dense.config, params, dense, tokens))
    return lambda params: run(params, pair.dense.params, tokens)


def gradient_of(pair, **settings):
    """A compiled function: parameters -> ((loss, terms), gradients)."""
    config, tokens = run_of(pair, **settings), some_tokens(length=9)

    def loss(params, dense, tokens):
        found = loss_terms(config, pair.dense.config, params, dense, tokens)
        return bridge_loss(config, found), found

    run = jax.jit(jax.value_and_grad(loss, has_aux=True))
    return lambda params: run(params, pair.dense.params, tokens)


@pytest.fixture(scope="module")
def one_layer():
    """A random pair with one layer, and its compiled loss and gradients."""
    pair = random_pair(n_layers=1)
    return pair, gradient_of(pair)


def test_exact_bridges_cost_nothing(one_layer):
    pair = exact_pair(dataclasses.replace(DENSE, n_layers=1))
    terms = terms_of(pair)(params_of(pair))
    assert set(terms) == set(TERMS)
    dense = pair.dense
    loss = jax.jit(lambda params: next_token_loss(dense.config, params, some_tokens(length=9)))(dense.params)
    np.testing.assert_allclose(terms.pop("cross_entropy"), loss, rtol=1e-5)
    for term in terms.values():
        np.testing.assert_allclose(term, 0, atol=1e-5)
    pair, gradient = one_layer
    (_, terms), _ = gradient(params_of(pair))
    assert set(terms) == set(TERMS) and all(term > 0.1 for term in terms.values())


def test_errors_and_divergences_are_those_worked_out_by_hand():
    # means (3, 2): deviations -2, 2, 0, 0, squares 4, 4, 0, 0: variance 2; squared errors 1, 0, 0, 9
    target, found = np.array([[1.0, 2.0], [5.0, 2.0]]), np.array([[2.0, 2.0], [5.0, 5.0]])
    np.testing.assert_allclose(nmse(found, target), (10 / 4) / 2)
    np.testing.assert_allclose(nmse(np.array([[3.0, 2.0]] * 2), target), 1)
    logits = np.log(np.array([[0.5, 0.5], [0.9, 0.1]]))
    target = np.log(np.array([[0.25, 0.75], [0.9, 0.1]]))
    by_hand = (0.25 * np.log(0.25 / 0.5) + 0.75 * np.log(0.75 / 0.5)) / 2
    np.testing.assert_allclose(divergence(logits, target), by_hand, rtol=1e-5)


def test_maps_are_matrix_products_and_encoders_keep_the_largest():
    pair = random_pair()
    x = np.asarray(jax.random.normal(jax.random.key(0), (2, 3, 6)))
    encoder = {name: np.asarray(leaf[1]) for name, leaf in pair.bridges["encoder"].items()}
    whole = x @ encoder["kernel"] + encoder["bias"]
    cut = np.sort(np.abs(whole), axis=-1)[..., -3:-2]
    np.testing.assert_allclose(
        encode(pair.bridges, 1, x, 3), np.where(np.abs(whole) >= cut, whole, 0), atol=1e-5
    )
    y = np.asarray(jax.random.normal(jax.random.key(0), (2, 3, 8)))
    decoder = pair.bridges["decoder"]
    np.testing.assert_allclose(
        decode(pair.bridges, 4, y), y @ decoder["kernel"][4] + decoder["bias"][4], atol=1e-5
    )


def test_a_term_without_weight_is_not_there_and_weights_count(one_layer):
    pair, gradient = one_layer
    (_, every), _ = gradient(params_of(pair))
    config = run_of(pair, encoder_nmse=0, decoder_nmse=2.5, dense_to_sparse_kl=0)
    terms = terms_of(pair, encoder_nmse=0, decoder_nmse=2.5, dense_to_sparse_kl=0)(params_of(pair))
    assert list(terms) == ["cross_entropy", "decoder_nmse", "sparse_to_dense_kl"]
    expected = every["cross_entropy"] + 2.5 * every["decoder_nmse"] + every["sparse_to_dense_kl"]
    np.testing.assert_allclose(bridge_loss(config, terms), expected, rtol=1e-5)


@pytest.mark.parametrize("name", ["encoder", "decoder"])
def test_the_gradient_of_a_bridge_is_its_finite_difference(one_layer, name):
    pair, gradient = one_layer
    step = 1e-2

    def loss(change):
        kernel = np.array(pair.bridges[name]["kernel"])
        kernel[2, 1, 3] += change
        bridges = {**pair.bridges, name: {**pair.bridges[name], "kernel": kernel}}
        (found, _), _ = gradient({**params_of(pair), "bridges": bridges})
        return found

    difference = (loss(step) - loss(-step)) / (2 * step)
    found = np.asarray(gradient(params_of(pair))[1]["bridges"][name]["kernel"])[2, 1, 3]
    assert abs(found) > 1e-3
    np.testing.assert_allclose(found, difference, rtol=0.02, atol=2e-3)


def test_the_sparse_model_gets_gradients_only_if_it_is_trained(one_layer):
    pair, gradient = one_layer
    found = gradient(params_of(pair)), gradient_of(pair, train_sparse=False)(params_of(pair))
    trained, frozen = (jax.device_get(gradients) for _, gradients in found)
    assert np.abs(trained["sparse"]["layers"]["mlp"]["up"]["kernel"]).max() > 1e-4
    assert all(not np.any(leaf) for leaf in jax.tree.leaves(frozen["sparse"]))
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5),
        trained["bridges"],
        frozen["bridges"],
    )


def test_bridges_that_do_not_fit_are_named():
    pair = random_pair()
    short = {name: {leaf: x[:4] for leaf, x in maps.items()} for name, maps in pair.bridges.items()}
    with pytest.raises(InputError, match="encoder/kernel: shape .4, 6, 8.; valid: .5, 6, 8., one for each"):
        check_bridges(short, SPARSE, DENSE)
    with pytest.raises(InputError, match="decoder/kernel: missing"):
        check_bridges({"encoder": pair.bridges["encoder"]}, SPARSE, DENSE)
    for wrong, said in (
        ({"encoder_fraction": 0.0}, "bridges.encoder_fraction: 0.0"),
        ({"decoder_nmse": -1.0}, "bridges.decoder_nmse: -1.0"),
        (dict.fromkeys(TERMS, 0.0), "at least one weight above 0"),
    ):
        with pytest.raises(InputError, match=said):
            BridgeConfig(**wrong)
