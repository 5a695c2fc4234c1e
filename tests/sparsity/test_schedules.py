import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sparse_jax.sparsity.config import SparsityConfig
from sparse_jax.sparsity.schedules import count_kept, fraction_kept, surplus


@pytest.mark.parametrize(
    "schedule, expected",
    [
        ("linear", [1, 1, 0.75, 0.5, 0.25, 0, 0]),
        ("power", [1, 1, 0.5625, 0.25, 0.0625, 0, 0]),
        ("constant", [0, 0, 0, 0, 0, 0, 0]),
    ],
)
def test_surplus_by_hand(schedule, expected):
    config = SparsityConfig(0.2, schedule=schedule, anneal_start=0.1, anneal_end=0.5, power=2.0)
    updates = jnp.array([0, 10, 20, 30, 40, 50, 100])
    np.testing.assert_allclose(surplus(config, updates, 100), expected, atol=1e-6)
    np.testing.assert_allclose(
        jax.jit(lambda u: fraction_kept(config, u, 100))(updates), 0.2 + 0.8 * np.array(expected), atol=1e-6
    )


def test_the_target_is_reached_exactly_even_when_annealing_ends_with_the_run():
    config = SparsityConfig(0.1, anneal_start=0.0, anneal_end=1.0)
    assert surplus(config, jnp.int32(7), 7) == 0


def test_counts_by_hand():
    """Of 10 weights 3 stay in the end: 7 surplus ones are rounded down."""
    counts = [int(count_kept(3, 10, jnp.float32(s))) for s in (1, 0.99, 0.5, 0.2, 0.1, 0)]
    assert counts == [10, 9, 6, 4, 3, 3]


def test_counts_of_a_matrix_too_large_for_float32():
    size = 2**26 + 3
    assert int(count_kept(1, size, jnp.float32(1))) in range(size - 4, size + 1)
    assert int(count_kept(2**25 + 1, size, jnp.float32(0))) == 2**25 + 1
