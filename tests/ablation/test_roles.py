"""Whether kept nodes do what they do in the model, against the sum written out."""

import numpy as np
import pytest

from sparse_jax.ablation.roles import LEAST_VARIANCE, role_error
from sparse_jax.tasks.encode import EncodedPairs


def test_the_error_is_the_unexplained_variance_of_open_nodes_over_tokens_that_count():
    rng = np.random.default_rng(0)
    tokens, last = np.zeros((3, 2, 5), np.int32), np.array([[4, 2], [3, 3], [1, 4]], np.int32)
    pairs = EncodedPairs(tokens, last, np.zeros((3, 2, 2), np.int32))
    gates = {"q": np.array([[1.0, 0.0, 1.0], [0.0, 1.0, 1.0]], np.float32)}
    full = {"q": rng.normal(size=(2, 6, 5, 3)).astype(np.float32)}
    full["q"][1, ..., 2] *= 1e-4  # hardly varies: its variance counts as a share of the mean one
    pruned = {"q": full["q"] + rng.normal(size=(2, 6, 5, 3)).astype(np.float32) * 0.3}
    counted = np.arange(5) <= last.reshape(6, 1)
    expected = []
    for layer, index in np.argwhere(gates["q"]):
        a, b = (x["q"][layer, ..., index][counted].astype(np.float64) for x in (pruned, full))
        variances = [full["q"][layer, ..., n][counted].astype(np.float64).var() for n in range(3)]
        expected.append(np.mean((a - b) ** 2) / max(b.var(), LEAST_VARIANCE * np.mean(variances)))
    assert float(role_error(gates, pruned, full, pairs)) == pytest.approx(np.mean(expected), rel=1e-4)
    assert float(role_error(gates, full, full, pairs)) == 0
