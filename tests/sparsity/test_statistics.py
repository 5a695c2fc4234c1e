import jax.numpy as jnp
import numpy as np
import pytest

from sparse_jax.sparsity import statistics
from tests.sparsity.trees import small_params


def test_nonzero_weights_by_group():
    params = small_params(n_layers=2, d_model=8, d_mlp=16, d_attention=12, vocab_size=10)
    params["layers"]["mlp"]["up"]["kernel"] = jnp.zeros((2, 8, 16)).at[1, 2, 3].set(1e-45)
    params["embed"]["kernel"] = jnp.zeros((10, 8)).at[0].set(-1)
    counts = statistics.nonzero_weights(params)
    assert counts["embed/kernel"] == 8 and counts["bigram/kernel"] == 100
    attention = 3 * (8 * 12 + 12) + 12 * 8 + 8 + 8 + 3
    mlp = 16 + 16 * 8 + 8 + 8
    totals = {name: int(n) for name, n in statistics.total_nonzero(params).items()}
    up = int(counts["layers/mlp/up/kernel"])
    assert totals["layers"] == 2 * (attention + mlp) + up
    assert totals["embeddings"] == 8 + 80
    assert totals["other"] == 100 + 10 + 8 + 6 * 8
    assert totals["total"] == totals["layers"] + totals["embeddings"] + totals["other"]


def test_turnover_by_hand():
    before = {"a": jnp.array([True, True, False, False]), "b": None}
    after = {"a": jnp.array([True, False, True, True]), "b": None}
    assert statistics.mask_turnover(before, after) == pytest.approx(2 / 3)
    assert statistics.mask_turnover(after, after) == 0
    assert statistics.mask_turnover({"b": None}, {"b": None}) == 0


def test_dead_neurons_by_hand():
    """Layer 0: neuron 1 has no input, neuron 2 neither input nor output. Layer 1: neuron 0 has no output."""
    up, down = np.ones((2, 3, 4), np.float32), np.ones((2, 4, 3), np.float32)
    up[0, :, [1, 2]] = 0
    down[0, 2] = down[1, 0] = 0
    mlp = {"up": {"kernel": jnp.asarray(up)}, "down": {"kernel": jnp.asarray(down)}}
    found = {name: n.tolist() for name, n in statistics.dead_neurons({"layers": {"mlp": mlp}}).items()}
    assert found == {"no_input": [2, 0], "no_output": [1, 1], "dead": [2, 1]}


def test_kurtosis_against_float64_and_of_known_distributions():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(4, 50, 6)) ** 3 + 2
    flat = x.reshape(-1, 6)
    centered = flat - flat.mean(axis=0)
    expected = np.mean((centered**4).mean(axis=0) / (centered**2).mean(axis=0) ** 2 - 3)
    assert statistics.kurtosis(jnp.asarray(x, jnp.float32)) == pytest.approx(expected, rel=1e-4)
    assert statistics.kurtosis(jnp.asarray(rng.normal(size=(200_000, 2)))) == pytest.approx(0, abs=0.1)
    assert statistics.kurtosis(jnp.array([[-1.0], [1.0]])) == pytest.approx(-2)


def test_constant_channels_do_not_count():
    two_level = jnp.array([[-1.0, 0.0, 0.1], [1.0, 0.0, 0.1]])
    assert statistics.kurtosis(two_level) == pytest.approx(-2)
    assert statistics.kurtosis(jnp.zeros((5, 2))) == 0
