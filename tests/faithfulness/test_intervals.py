"""Intervals against those of SciPy, and by hand."""

import numpy as np
import pytest
from scipy import stats

from sparse_jax.faithfulness.intervals import answers_interval, geometric_mean, mean_interval, share_interval
from sparse_jax.inputs import InputError


def test_the_mean_by_hand():
    assert geometric_mean([4, 9]).value == pytest.approx(6)
    assert geometric_mean([2, 4, 8], samples=10).value == pytest.approx(4)


def test_equal_values_leave_nothing_open():
    assert geometric_mean([7.0] * 5) == pytest.approx((7, 7, 7))


def test_two_values_give_all_four_draws():
    # the mean of two draws is 1, 10 (half of the time) or 100: the 2.5 % ends are the values themselves
    assert geometric_mean([1, 100]) == pytest.approx((10, 1, 100))


def test_the_interval_is_that_of_scipy_and_depends_on_the_seed_only():
    values = np.exp(np.random.default_rng(0).normal(1, 1, 20))
    found = geometric_mean(values, samples=20_000, seed=1)
    theirs = stats.bootstrap((np.log(values),), np.mean, method="percentile", rng=2, n_resamples=20_000)
    ends = np.exp(theirs.confidence_interval)
    assert found[1:] == pytest.approx(ends, rel=0.02)
    assert found == geometric_mean(values, samples=20_000, seed=1)
    assert found != geometric_mean(values, samples=20_000, seed=2)


def test_the_interval_covers_the_truth_about_as_often_as_it_says():
    rng = np.random.default_rng(0)
    found = [geometric_mean(np.exp(rng.normal(2, 1, 40)), samples=500) for _ in range(300)]
    covered = np.mean([one.low <= np.exp(2) <= one.high for one in found])
    assert 0.90 < covered < 0.98


@pytest.mark.parametrize("values", [[], [1, 0], [2, -1]])
def test_what_has_no_geometric_mean_is_refused(values):
    with pytest.raises(InputError, match="positive numbers, at least one"):
        geometric_mean(values)


def test_a_mean_has_the_bootstrap_interval_of_scipy():
    values = np.random.default_rng(3).gamma(2, size=40)
    theirs = stats.bootstrap((values,), np.mean, method="percentile", rng=2, n_resamples=20_000)
    found = mean_interval(values)
    assert found.value == pytest.approx(values.mean())
    assert found[1:] == pytest.approx(theirs.confidence_interval, rel=0.02)


@pytest.mark.parametrize(("hits", "total"), [(0, 7), (3, 20), (20, 20)])
def test_a_share_has_the_exact_interval_of_scipy(hits, total):
    theirs = stats.binomtest(hits, total).proportion_ci(method="exact")
    assert share_interval(hits, total) == pytest.approx((hits / total, *theirs))


def test_answers_of_a_pair_count_as_one_trial():
    """They can depend on each other wholly; then this is the exact interval of the pairs."""
    for hits, pairs in ((0, 16), (5, 16), (16, 16)):
        answers = np.repeat(np.arange(pairs)[:, None] < hits, 2, axis=1)
        theirs = stats.binomtest(hits, pairs).proportion_ci(method="exact")
        assert answers_interval(answers) == pytest.approx((hits / pairs, *theirs))
    # 7 of 8 answers are 3.5 of 4 pairs
    found = answers_interval(np.arange(8).reshape(4, 2) < 7)
    ends = [stats.binomtest(hits, 4).proportion_ci(method="exact") for hits in (3, 4)]
    assert found == pytest.approx((7 / 8, ends[0].low, ends[1].high))


def test_only_answers_that_count_and_their_pairs_do():
    hits = np.array([[True, False], [True, True], [False, True]])
    counted = np.array([[True, True], [False, False], [False, True]])
    # 2 of 3 answers, of 2 pairs: 1 1/3 of 2
    ends = [stats.binomtest(number, 2).proportion_ci(method="exact") for number in (1, 2)]
    assert answers_interval(hits, counted) == pytest.approx((2 / 3, ends[0].low, ends[1].high))
    with pytest.raises(InputError, match="answers"):
        answers_interval(hits, counted & False)


def test_a_share_of_answers_covers_the_truth_although_those_of_a_pair_go_together():
    rng = np.random.default_rng(0)
    covered = []
    for _ in range(1000):
        first = rng.random(32) < 0.9
        second = np.where(rng.random(32) < 0.8, first, rng.random(32) < 0.9)
        found = answers_interval(np.stack([first, second], axis=1))
        covered.append(found.low <= 0.9 <= found.high)
    assert np.mean(covered) > 0.95


def test_values_that_are_none_are_named():
    with pytest.raises(InputError, match="values"):
        mean_interval([])
    with pytest.raises(InputError, match="hits: '3 of 2' is not valid"):
        share_interval(3, 2)
