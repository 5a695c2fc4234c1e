"""The most activating text of a node against a search by hand over single windows."""

import json

import jax
import numpy as np
import pytest

from sparse_jax.circuits.graph import Node
from sparse_jax.inputs import InputError
from sparse_jax.model import sites
from sparse_jax.model.config import ModelConfig
from sparse_jax.model.forward import forward, initialize
from sparse_jax.model.hooks import Hooks
from sparse_jax.viewer import exemplars as module
from sparse_jax.viewer.exemplars import exemplars

CONFIG = ModelConfig(vocab_size=20, context=12, n_layers=2, d_model=8, d_head=4, unroll=False)
NODES = [
    Node(layer, site, index) for site in sites.LAYER_SITES for layer, index in ((1, 5), (0, 2), (1, 0))
] + [Node(2, "final_resid", 6), Node(2, "final_resid", 1), Node(0, "embed", 4), Node(0, "embed", 2)]


@pytest.fixture(scope="module")
def model():
    params = jax.jit(lambda key: jax.tree.map(lambda x: x * 20, initialize(CONFIG, key)))(jax.random.key(0))
    return params, np.random.default_rng(0).integers(0, 20, (7, 10)).astype(np.int32)


@pytest.fixture(scope="module")
def activations(model):
    """Every site's values for each window alone, [L, T, N] (what is outside the layers as one layer)."""
    params, windows = model
    run = jax.jit(lambda tokens: forward(CONFIG, params, tokens, Hooks(capture=sites.NODE_SITES))[1])
    found = [jax.device_get(run(window[None])) for window in windows]
    return [
        {site: x[None, 0] if site in sites.UNLAYERED_SITES else x[:, 0] for site, x in values.items()}
        for values in found
    ]


def decode(tokens):
    return "".join(chr(ord("a") + token) for token in tokens)


def searched(activations, windows, node, per_node, reach):
    """The same in plain Python: the best place of each window, then the best windows."""
    found = []
    for number, (values, window) in enumerate(zip(activations, windows)):
        layer = 0 if node.site in sites.UNLAYERED_SITES else node.layer
        values = values[node.site][layer, :, node.index].tolist()
        place = max(range(len(values)), key=lambda t: (abs(values[t]), -t))
        text = decode(window)
        cut = text[max(0, place - reach) : place], text[place], text[place + 1 : place + 1 + reach]
        if values[place] != 0:
            found.append((-abs(values[place]), number, cut, values[place]))
    return [entry[2:] for entry in sorted(found)[:per_node]]


def test_matches_a_search_over_single_windows(model, activations):
    params, windows = model
    # Three windows a batch leave a short last batch.
    told = exemplars(CONFIG, params, NODES, windows, decode, per_node=3, batch=3, reach=4)
    assert list(told) == [node.name for node in NODES]
    for node in NODES:
        texts, values = zip(*searched(activations, windows, node, 3, 4))
        excerpts = tuple((entry["before"], entry["token"], entry["after"]) for entry in told[node.name])
        assert excerpts == texts, node.name
        np.testing.assert_allclose([entry["value"] for entry in told[node.name]], values, rtol=1e-4)
    assert json.loads(json.dumps(told)) == told


def test_a_node_that_is_never_active_has_none(model):
    params, windows = model
    dead = jax.tree.map(lambda x: x, params)
    down = dead["layers"]["mlp"]["down"]
    dead["layers"]["mlp"]["down"] = jax.tree.map(lambda x: x.at[..., 5].set(0), down)
    told = exemplars(CONFIG, dead, [Node(0, "mlp_out", 5)], windows, decode)
    assert told == {"0.mlp_out.5": []}


def test_one_program_serves_all_batches(model, monkeypatch):
    params, windows = model
    traced = []

    def counting(config, params, tokens, hooks):
        traced.append(tokens.shape)
        return forward(config, params, tokens, hooks)

    monkeypatch.setattr(module, "forward", counting)
    exemplars(CONFIG, params, NODES[:4], windows, decode, batch=2)
    assert traced == [(2, 10)]


def test_windows_are_checked(model):
    params, windows = model
    assert exemplars(CONFIG, params, [], windows, decode) == {}
    with pytest.raises(InputError, match="windows"):
        exemplars(CONFIG, params, NODES[:1], windows[0], decode)
    with pytest.raises(InputError, match=f"windows: .*valid: token ids 0 to {CONFIG.vocab_size - 1}"):
        exemplars(CONFIG, params, NODES[:1], windows + CONFIG.vocab_size, decode)
    with pytest.raises(InputError, match="at most context 12"):
        exemplars(CONFIG, params, NODES[:1], np.zeros((1, 13), np.int32), decode)
