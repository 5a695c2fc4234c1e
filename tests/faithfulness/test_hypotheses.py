"""The tests of Shi et al., against enumeration, formulas written out, and what they must tell apart."""

import itertools
import math

import numpy as np
import pytest

from sparse_jax.faithfulness.hypotheses import better_than_share, equivalence, holm, independence
from sparse_jax.inputs import InputError


def test_equivalence_is_the_tail_over_all_outcomes():
    """Every outcome of some signs, with the probability that it has at the two ends of the null hypothesis.

    With 5 and 9 signs, shares and their distances from a half are no sums of powers of two.
    """
    for count, above in [(signs, above) for signs in (5, 8, 9) for above in range(signs + 1)]:
        difference = np.array([1.0] * above + [-1.0] * (count - above))
        found = equivalence(np.zeros(count), difference)
        tails = []
        for p in (0.4, 0.6):
            tail = 0.0
            for signs in itertools.product((0, 1), repeat=count):
                if abs(sum(signs) / count - 0.5) >= abs(above / count - 0.5) - 1e-12:
                    tail += p ** sum(signs) * (1 - p) ** (count - sum(signs))
            tails.append(tail)
        assert found == pytest.approx(min(1, max(tails)), abs=1e-9), (count, above)


def test_a_mean_difference_without_more_signs_is_not_counted():
    """One large difference moves the mean, and not the share of signs."""
    assert equivalence(np.zeros(10), [100.0, *[-1.0] * 5, *[1.0] * 4]) > 0.5


def test_independence_is_the_criterion_written_out_and_tells_dependence():
    rng = np.random.default_rng(0)
    x, other = rng.normal(size=40), rng.normal(size=40)
    assert independence(x, x**2) < 0.01 < 0.05 < independence(x, other)
    # by its definition, trace(K H L H), with each kernel's own median distance
    kernels = []
    for scores in (x, other):
        distances = [[abs(a - b) for b in scores] for a in scores]
        middle = np.median([distances[i][j] for i in range(40) for j in range(i)])
        kernels.append(np.exp(-np.square(distances) / (2 * middle**2)))
    center = np.eye(40) - 1 / 40

    def criterion(order):
        return np.trace(kernels[0] @ center @ kernels[1][np.ix_(order, order)] @ center)

    rng, found = np.random.default_rng(0), criterion(np.arange(40))
    as_large = sum(criterion(rng.permutation(40)) >= found for _ in range(200))
    assert independence(x, other, permutations=200) == pytest.approx((1 + as_large) / 201)


def test_beating_random_ones_is_a_binomial_tail():
    expected = sum(math.comb(20, k) * 0.9**k * 0.1 ** (20 - k) for k in range(18, 21))
    assert better_than_share(18, 20) == pytest.approx(expected)
    assert better_than_share(0, 20) == 1.0
    with pytest.raises(InputError, match="wins: '21 of 20' is not valid"):
        better_than_share(21, 20)


def test_holm_is_its_table():
    assert holm({"a": 0.01, "b": 0.04, "c": 0.03, "d": 0.005}) == pytest.approx(
        {"a": 0.03, "b": 0.06, "c": 0.06, "d": 0.02}
    )
    assert holm({"a": 0.9, "b": 0.8}) == {"a": 1.0, "b": 1.0}
