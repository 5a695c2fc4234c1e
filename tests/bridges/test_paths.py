"""Losses of hybrid paths, against planted bridges and a walk by hand."""

import jax
import numpy as np
import optax
import pytest

from sparse_jax.bridges.hybrid import run, run_from
from sparse_jax.bridges.maps import decode, encode
from sparse_jax.bridges.paths import measure_paths
from sparse_jax.inputs import InputError
from tests.bridges.pairs import exact_pair, random_pair, some_tokens


def test_all_paths_through_exact_bridges_have_the_loss_of_the_model():
    pair, windows = exact_pair(), some_tokens(4, 9)
    rows = measure_paths(pair, windows, 2)
    assert len(rows) == 2 * (1 + 5 + 10) and len({row[:3] for row in rows}) == 32
    for row in rows:
        np.testing.assert_allclose(row.loss, rows[0].loss, rtol=1e-5)
        np.testing.assert_allclose(row.added, 0, atol=1e-5)


def test_a_path_through_other_bridges_is_the_one_walked_by_hand():
    pair, windows = random_pair(n_layers=1), some_tokens(4, 9)
    rows = {row[:3]: row for row in measure_paths(pair, windows, 4)}
    (sparse, s), (dense, d) = ((m.config, m.params) for m in (pair.sparse, pair.dense))
    tokens = windows[:, :-1]

    def losses(logits):
        return optax.softmax_cross_entropy_with_integer_labels(logits, windows[:, 1:]).mean(axis=-1)

    @jax.jit
    def walked(s, d, bridges):
        whole, stream = run(dense, d, tokens)
        _, in_sparse = run_from(sparse, s, tokens, 0, encode(bridges, 0, stream[0], 4))
        early, _ = run_from(dense, d, tokens, 1, decode(bridges, 1, in_sparse[1]))
        _, in_sparse = run_from(sparse, s, tokens, 1, encode(bridges, 1, stream[1], 4))
        late, _ = run_from(dense, d, tokens, 2, decode(bridges, 2, in_sparse[1]))
        _, stream = run(sparse, s, tokens)
        at_the_end, _ = run_from(dense, d, tokens, 2, decode(bridges, 2, stream[2]))
        return [losses(logits) for logits in (whole, early, late, at_the_end)]

    whole, early, late, at_the_end = map(np.asarray, walked(s, d, pair.bridges))
    for places, walk in ((("0.resid_in", "0.resid_mid"), early), (("0.resid_mid", "1.final_resid"), late)):
        found, added = rows["dense", *places], walk - whole
        np.testing.assert_allclose(found.loss, walk.mean(), rtol=1e-5)
        np.testing.assert_allclose(found.added, added.mean(), rtol=1e-4)
        np.testing.assert_allclose(found.added_error, added.std(ddof=1) / 2, rtol=1e-4)
    np.testing.assert_allclose(rows["dense", None, None].loss, whole.mean(), rtol=1e-5)
    np.testing.assert_allclose(rows["sparse", "1.final_resid", None].loss, at_the_end.mean(), rtol=1e-5)


def test_windows_that_do_not_fit_are_refused():
    with pytest.raises(InputError, match="windows: 3 is not valid; valid: a positive multiple of"):
        measure_paths(exact_pair(), some_tokens(3, 9), 2)
    with pytest.raises(InputError, match="windows: 'ids"):
        measure_paths(exact_pair(), some_tokens(4, 9) + 10, 2)
