"""Rankings against sums and finite differences written out."""

import dataclasses
import functools

import jax
import numpy as np
import pytest

from sparse_jax.model import sites
from sparse_jax.model.hooks import Hooks, Patch
from sparse_jax.pruning.baselines import attribution, random_scores, weight_magnitudes
from sparse_jax.pruning.config import PruneConfig
from sparse_jax.tasks.encode import EncodedPairs
from tests.compiled import forward
from tests.pruning.noisy import CONFIG, noisy

TIED = PruneConfig(sites=sites.NODE_SITES)
APART = dataclasses.replace(TIED, tied_qk=False)
PAIRS = EncodedPairs(*(array[:4] for array in noisy().pairs))
STEP = 2e-3


@jax.jit
def losses(tokens, patches):
    """Cross-entropy [B, T] of token 4 against 5, for prompts that end anywhere."""
    logits = forward(CONFIG, noisy().params, tokens, Hooks(patches=patches))[0][..., 4:6]
    return -jax.nn.log_softmax(logits)[..., 0], -jax.nn.log_softmax(logits)[..., 1]


def patch_of(values, row):
    """Twelve copies of a prompt's values, of which none is patched in."""
    copies = np.repeat(values[..., row : row + 1, :, :], 12, axis=-3)
    return Patch(np.zeros(copies.shape, bool), copies)


@functools.cache
def values_of():
    """Activations of all nodes of the 8 prompts."""
    hooks = Hooks(capture=sites.NODE_SITES)
    return jax.device_get(forward(CONFIG, noisy().params, PAIRS.tokens.reshape(8, -1), hooks)[1])


def score_by_hand(site, place):
    """|gradient x (activation - mean)| of one node, summed over positions, mean over the 8 prompts."""
    tokens, last = PAIRS.tokens.reshape(8, -1), PAIRS.last.reshape(-1)
    right = PAIRS.candidates.reshape(8, 2)[:, 0] - 4
    values, scores = values_of()[site], []
    for row in range(8):
        # every position moved up and down, each in a copy of the prompt of its own
        copies = np.repeat(tokens[row : row + 1], 12, axis=0)
        # nothing is patched at the other sites: one program serves all of them
        patches = {name: patch_of(x, row) for name, x in values_of().items()}
        where, moved = patches[site].where, patches[site].value
        for copy in range(12):
            at = (*place[:-1], copy, copy // 2, place[-1])
            where[at] = True
            moved[at] += STEP if copy % 2 else -STEP
        found = losses(copies, patches)[right[row]][:, last[row]]
        gradients = (
            np.diff(np.float64(found).reshape(6, 2))[:, 0] / (2 * STEP) / 2
        )  # a half of its pair's loss
        here = values[(*place[:-1], row, slice(None), place[-1])]
        scores.append(np.abs(gradients * (here - noisy().ablated[site][place])).sum())
    return np.mean(scores)


def test_attribution_is_gradient_times_distance_from_the_mean():
    judge = noisy()
    found = attribution(CONFIG, judge.params, judge.ablated, PAIRS, APART)
    for site, shape in sites.node_shapes(CONFIG).items():
        assert found[site].shape == shape
    nodes = ("mlp_out", (1, 0)), ("v", (1, 2)), ("mlp_neuron", (0, 3)), ("final_resid", (1,)), ("embed", (4,))
    for site, place in nodes:
        by_hand = score_by_hand(site, place)
        assert by_hand > 1e-3
        assert found[site][place] == pytest.approx(by_hand, rel=0.05), site
    tied = attribution(CONFIG, judge.params, judge.ablated, PAIRS, TIED)
    np.testing.assert_allclose(tied["q"], found["q"] + found["k"], rtol=1e-5)
    assert "k" not in tied


def test_magnitudes_are_sums_over_rows_and_columns():
    params = noisy().params
    kernels = {
        matrix: np.abs(np.asarray(params["layers"][sublayer][matrix]["kernel"]))
        for _, _, sublayer, matrix in sites.EDGE_MATRICES
    }
    found = weight_magnitudes(CONFIG, params, APART)
    expected = {
        ("attn_in", 1, 2): sum(kernels[name][1, 2].sum() for name in "qkv"),
        ("v", 0, 4): kernels["v"][0, :, 4].sum() + kernels["out"][0, 4].sum(),
        ("mlp_neuron", 1, 7): kernels["up"][1, :, 7].sum() + kernels["down"][1, 7].sum(),
        ("mlp_out", 0, 5): kernels["down"][0, :, 5].sum(),
        ("final_resid", 3): np.abs(params["unembed"]["kernel"])[3].sum(),
        ("embed", 3): np.abs(params["embed"]["kernel"])[:, 3].sum(),
    }
    for (site, *place), total in expected.items():
        assert found[site][tuple(place)] == pytest.approx(float(total), rel=1e-5) and total > 0
    tied = weight_magnitudes(CONFIG, params, TIED)
    np.testing.assert_allclose(tied["q"], found["q"] + found["k"])


def test_positions_that_are_added_are_weights_into_the_embedding_s_nodes():
    config = dataclasses.replace(CONFIG, positions="added")
    table = {"kernel": -np.arange(config.context * 6.0).reshape(-1, 6)}
    plain = weight_magnitudes(CONFIG, noisy().params, APART)
    found = weight_magnitudes(config, {**noisy().params, "position": table}, APART)
    np.testing.assert_allclose(found.pop("embed"), plain["embed"] - table["kernel"].sum(axis=0))
    assert all((score == plain[site]).all() for site, score in found.items())


def test_random_scores_depend_on_the_seed_alone():
    one, same, other = (random_scores(CONFIG, TIED, seed) for seed in (0, 0, 1))
    assert "k" not in one and one["final_resid"].shape == (6,)
    for site in one:
        np.testing.assert_array_equal(one[site], same[site])
    assert (one["mlp_in"] != other["mlp_in"]).all() and len(np.unique(one["mlp_neuron"])) == 16
