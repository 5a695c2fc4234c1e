"""Variants of gates in one program, against each variant's gates written out."""

import dataclasses

import numpy as np
import pytest

from sparse_jax.ablation import judge as evaluate
from sparse_jax.circuits.gates import close
from sparse_jax.circuits.ranking import number_units
from tests.pruning.noisy import PAIRS, losses_of, noisy, random_gates

CLOSED = np.array([[0, 0], [3, 60], [7, 8], [0, 5], [10, 11], [0, 100]])


def ranked(gates, seed=0):
    units = number_units(gates, tied=False)
    return units.ranks(np.random.default_rng(seed).permutation(units.count))


@pytest.mark.parametrize("edges", [False, True])
def test_losses_are_those_of_the_gates_written_out(edges):
    gates = random_gates(1, edges=edges)
    ranks = ranked({key: gates[key] for key in list(gates)[::2]})
    found = noisy().variants(gates, ranks, CLOSED)
    assert found.shape == (len(CLOSED), PAIRS)
    for row, (start, stop) in zip(found, CLOSED):
        chosen = {key: (rank >= start) & (rank < stop) for key, rank in ranks.items()}
        np.testing.assert_allclose(row, losses_of(close(gates, chosen)), atol=1e-5)
    np.testing.assert_allclose(noisy().losses(gates), found[0], atol=1e-6)
    assert np.ptp(found.mean(axis=1)) > 0.05


def test_more_variants_than_a_call_takes_and_no_variant_at_all():
    gates = random_gates(1)
    ranks = ranked(gates)
    many = np.stack([np.arange(20), np.arange(20) + 1], axis=1)
    found = noisy().variants(gates, ranks, many)
    np.testing.assert_allclose(found[19:], noisy().variants(gates, ranks, many[19:]), atol=1e-6)
    assert noisy().variants(gates, ranks, many[:0]).shape == (0, PAIRS)


def test_rows_are_given_up_exactly_where_the_mean_is_above_the_limit():
    gates = random_gates(1)
    closed = np.stack([np.arange(30), np.full(30, 1000)], axis=1)
    full = noisy().variants(gates, ranked(gates), closed)
    limit = float(np.median(full.mean(axis=1)))
    found = noisy().variants(gates, ranked(gates), closed, limit)
    below = full.mean(axis=1) <= limit
    assert 0 < below.sum() < 30
    np.testing.assert_array_equal(found[below], full[below])
    assert np.isinf(found[~below].mean(axis=1)).all()


def test_a_loss_that_is_no_number_counts_as_infinite():
    judge = noisy()
    broken = {**judge.ablated, "mlp_in": judge.ablated["mlp_in"] * np.nan}
    gates = {**random_gates(1), "mlp_in": np.zeros((2, 6), np.float32)}
    assert np.isinf(dataclasses.replace(judge, ablated=broken).losses(gates)).all()


def test_slopes_are_finite_differences():
    gates = {key: np.float32(0.3 + 0.4 * gate) for key, gate in random_gates(2).items()}
    short = noisy().pairs.__class__(*(array[: evaluate.PAIRS] for array in noisy().pairs))
    judge = dataclasses.replace(noisy(), pairs=short)
    gradients, checked = judge.gradients(gates), 0
    for index in range(6):  # of the last nodes: no AbsTopK follows, whose choice a step could change
        sides = []
        for step in (-1e-2, 1e-2):
            moved = {**gates, "mlp_out": gates["mlp_out"].copy()}
            moved["mlp_out"][1, index] += step
            sides.append(judge.losses(moved).mean())
        gradient = gradients["mlp_out"][1, index]
        checked += abs(gradient) > 1e-2
        assert gradient == pytest.approx((sides[1] - sides[0]) / 2e-2, abs=1e-3, rel=0.05)
    assert checked >= 3
