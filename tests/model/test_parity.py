"""The forward function against recorded outputs of the reference implementation (PyTorch, float32)."""

import json
from pathlib import Path

import jax
import numpy as np
import pytest
from flax.traverse_util import unflatten_dict

from sparse_jax.inputs import from_mapping
from sparse_jax.model import forward as model
from sparse_jax.model.config import ModelConfig
from sparse_jax.model.forward import param_shapes
from sparse_jax.model.hooks import Hooks
from sparse_jax.trees import named_leaves

forward = jax.jit(model.forward, static_argnums=0)

FIXTURES = sorted((Path(__file__).parents[1] / "data" / "parity").glob("*.npz"))


@pytest.fixture(params=FIXTURES, ids=lambda path: path.stem)
def recorded(request):
    arrays = dict(np.load(request.param))
    config = from_mapping(ModelConfig, json.loads(str(arrays["config"])), "model")
    leaves = {name[7:]: value for name, value in arrays.items() if name.startswith("params/")}
    return config, unflatten_dict(leaves, sep="/"), arrays


def test_the_parameter_tree_is_the_one_that_the_config_declares(recorded):
    config, params, _ = recorded
    declared = {name: leaf.shape for name, leaf in named_leaves(param_shapes(config)).items()}
    assert {name: leaf.shape for name, leaf in named_leaves(params).items()} == declared


def test_logits_and_every_site_agree(recorded):
    config, params, arrays = recorded
    sites = {name[6:]: value for name, value in arrays.items() if name.startswith("sites/")}
    logits, captured = forward(config, params, arrays["tokens"], Hooks(capture=tuple(sites)))
    np.testing.assert_allclose(logits, arrays["logits"], atol=1e-4)
    for site, expected in sites.items():
        # the fixtures hold the last eight positions of the first sequence
        found = np.asarray(captured[site])[..., :1, -8:, :]
        # what AbsTopK drops is 0; GELU's tail, which rounding makes 0 or a few 1e-7, is not its doing
        dropped, kept = (
            np.minimum(np.abs(found), np.abs(expected)),
            np.maximum(np.abs(found), np.abs(expected)),
        )
        assert not np.any((dropped <= 1e-6) & (kept > 2e-6)), f"selection at {site}"
        np.testing.assert_allclose(found, expected, atol=1e-4, err_msg=site)
