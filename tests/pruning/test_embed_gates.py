"""Gates on the token embedding in what prunes: packed pairs, the judge, files of means."""

import jax
import numpy as np
import pytest

from sparse_jax.ablation.objective import last_logits
from sparse_jax.inputs import InputError
from sparse_jax.model import sites
from sparse_jax.models.means import load_means, save_means
from sparse_jax.tasks.packing import pack_pairs
from tests.pruning.noisy import CONFIG, noisy, random_gates


def gates_with_embedding():
    return {**random_gates(5, 0.8), "embed": np.float32([1, 0, 1, 1, 0, 1])}


def test_packed_pairs_give_the_logits_of_pairs_apart_and_of_columns_that_hold_the_means():
    judge, gates = noisy(), gates_with_embedding()
    run = jax.jit(lambda params, gates, ablated, pairs: last_logits(CONFIG, params, gates, ablated, pairs))
    apart = run(judge.params, gates, judge.ablated, judge.pairs)
    packed = run(judge.params, gates, judge.ablated, pack_pairs(judge.pairs))
    np.testing.assert_allclose(packed, apart, atol=1e-3)
    closed = gates.pop("embed") == 0
    kernel = np.where(closed, judge.ablated["embed"], np.asarray(judge.params["embed"]["kernel"]))
    params = {**judge.params, "embed": {"kernel": kernel}}
    np.testing.assert_allclose(run(params, gates, judge.ablated, judge.pairs), apart, atol=1e-3)
    whole = run(judge.params, gates, judge.ablated, judge.pairs)
    assert np.abs(whole - apart).max() > 0.1


def test_the_judge_closes_its_gates_one_by_one():
    judge, gates = noisy(), gates_with_embedding()
    ranks = {"embed": np.int32([0, -1, 1, 2, -1, 3])}
    found = judge.variants(gates, ranks, np.array([[0, 1], [2, 4]]))
    for losses, left in zip(found, ([0, 0, 1, 1, 0, 1], [1, 0, 1, 0, 0, 0])):
        fewer = {**gates, "embed": np.float32(left)}
        np.testing.assert_allclose(losses, judge.losses(fewer), atol=1e-5)
    assert np.abs(found[0] - found[1]).max() > 1e-3


def test_means_from_before_the_embedding_s_gates_load_and_foreign_ones_do_not(tmp_path):
    means = dict(noisy().ablated)
    save_means(means, tmp_path / "all.npz", "some model")
    assert set(load_means(tmp_path / "all.npz")) == set(sites.NODE_SITES)
    del means["embed"]
    save_means(means, tmp_path / "old.npz", "some model")
    found = load_means(tmp_path / "old.npz")
    assert set(found) == {*sites.LAYER_SITES, sites.FINAL_SITE}
    for wrong in ({**means, "heads": means["q"]}, {site: means[site] for site in sites.LAYER_SITES}):
        save_means(wrong, tmp_path / "wrong.npz", "some model")
        with pytest.raises(InputError, match="wrong.npz contains .*; valid: embed, attn_in, "):
            load_means(tmp_path / "wrong.npz")
