"""Gates on the token embedding in what prunes: packed pairs, the evaluator, files of means."""

import jax
import numpy as np
import pytest

from sparse_jax.inputs import InputError
from sparse_jax.model import sites
from sparse_jax.pruning.means import load_means, save_means
from sparse_jax.pruning.objective import last_logits
from sparse_jax.pruning.packing import pack_pairs
from tests.pruning.noisy import CONFIG, noisy, random_gates


def gates_with_embedding():
    return {**random_gates(5, 0.8), "embed": np.float32([1, 0, 1, 1, 0, 1])}


def test_packed_pairs_give_the_logits_of_pairs_apart_and_of_columns_that_hold_the_means():
    evaluator, gates = noisy(), gates_with_embedding()
    run = jax.jit(lambda params, gates, fills, pairs: last_logits(CONFIG, params, gates, fills, pairs))
    apart = run(evaluator.params, gates, evaluator.fills, evaluator.pairs)
    packed = run(evaluator.params, gates, evaluator.fills, pack_pairs(evaluator.pairs))
    np.testing.assert_allclose(packed, apart, atol=1e-3)
    closed = gates.pop("embed") == 0
    kernel = np.where(closed, evaluator.fills["embed"], np.asarray(evaluator.params["embed"]["kernel"]))
    params = {**evaluator.params, "embed": {"kernel": kernel}}
    np.testing.assert_allclose(run(params, gates, evaluator.fills, evaluator.pairs), apart, atol=1e-3)
    whole = run(evaluator.params, gates, evaluator.fills, evaluator.pairs)
    assert np.abs(whole - apart).max() > 0.1


def test_the_evaluator_closes_its_gates_one_by_one():
    evaluator, gates = noisy(), gates_with_embedding()
    ranks = {"embed": np.int32([0, -1, 1, 2, -1, 3])}
    found = evaluator.variants(gates, ranks, np.array([[0, 1], [2, 4]]))
    for losses, left in zip(found, ([0, 0, 1, 1, 0, 1], [1, 0, 1, 0, 0, 0])):
        fewer = {**gates, "embed": np.float32(left)}
        np.testing.assert_allclose(losses, evaluator.losses(fewer), atol=1e-5)
    assert np.abs(found[0] - found[1]).max() > 1e-3


def test_means_from_before_the_embedding_s_gates_load_and_foreign_ones_do_not(tmp_path):
    means = dict(noisy().fills)
    save_means(means, tmp_path / "all.npz")
    assert set(load_means(tmp_path / "all.npz")) == set(sites.NODE_SITES)
    del means["embed"]
    save_means(means, tmp_path / "old.npz")
    found = load_means(tmp_path / "old.npz")
    assert set(found) == {*sites.LAYER_SITES, sites.FINAL_SITE}
    for wrong in ({**means, "heads": means["q"]}, {site: means[site] for site in sites.LAYER_SITES}):
        save_means(wrong, tmp_path / "wrong.npz")
        with pytest.raises(InputError, match="wrong.npz holds .*; valid: embed, attn_in, "):
            load_means(tmp_path / "wrong.npz")
