"""The tests of Shi et al. (2024, "Hypothesis testing the circuit hypothesis in LLMs"), Holm's correction.

All take scores as arrays and return p-values; a small one rejects the null hypothesis in the first line of
the function. Where a published implementation differs from the paper, these follow the paper: the equivalence
test counts signs, and each kernel's bandwidth comes from its own distances.
"""

import math
from collections.abc import Mapping

import numpy as np
from scipy import stats

from sparse_jax.inputs import require
from sparse_jax.trees import Array

TOLERANCE = 0.1
QUANTILE = 0.9
PERMUTATIONS = 1000


def equivalence(model_P: Array, circuit_P: Array, tolerance: float = TOLERANCE) -> float:
    """H0: the circuit's score is above the model's about half of the time, |P - 1/2| < tolerance.

    Exact binomial tails at the two ends of the null hypothesis; ties count half. A small value says that the
    circuit is not equivalent.

    >>> equivalence([0.0] * 20, [1.0, -1.0] * 10) > 0.9
    True
    >>> bool(equivalence([0.0] * 20, [1.0] * 20) < 0.001)
    True
    """
    difference = np.asarray(circuit_P, np.float64) - np.asarray(model_P, np.float64)
    count = len(difference)
    require(count > 0, "scores", [], "at least one")
    above = float((difference > 0).sum() + (difference == 0).sum() / 2)
    low, high = math.floor(min(above, count - above)), math.ceil(max(above, count - above))
    # the largest probability under the null hypothesis of a share at least this far from a half
    ends = (0.5 - tolerance, 0.5 + tolerance)
    return min(1.0, max(stats.binom.cdf(low, count, p) + stats.binom.sf(high - 1, count, p) for p in ends))


def independence(
    model_P: Array, complement_P: Array, permutations: int = PERMUTATIONS, seed: int = 0
) -> float:
    """H0: the scores of the model without the circuit are independent of the model's.

    The Hilbert-Schmidt criterion with Gaussian kernels whose bandwidths are the median distances, and
    `permutations` permutations. A small value says that the rest still knows what the model knows.
    """
    x, y = (_centered_kernel(np.asarray(scores, np.float64)) for scores in (model_P, complement_P))
    rng, count = np.random.default_rng(seed), len(x)
    found = (x * y).sum()
    orders = (rng.permutation(count) for _ in range(permutations))
    as_large = sum((x * y[np.ix_(order, order)]).sum() >= found for order in orders)
    return (1 + as_large) / (1 + permutations)


def better_than_share(wins: int, total: int, share: float = QUANTILE) -> float:
    """H0: the circuit beats at most `share` of random ones; `wins` of `total` were beaten.

    Serves sufficiency, partial necessity and minimality. The exact binomial tail.

    >>> round(better_than_share(100, 100), 7) == round(0.9**100, 7)
    True
    """
    require(total > 0 and 0 <= wins <= total, "wins", f"{wins} of {total}", "0 to a total above 0")
    return float(stats.binom.sf(wins - 1, total, share))


def holm(p_values: Mapping[str, float]) -> dict[str, float]:
    """The p-values corrected for being several (Holm, 1979), in the given order.

    >>> holm({"a": 0.01, "b": 0.04, "c": 0.03})
    {'a': 0.03, 'b': 0.06, 'c': 0.06}
    """
    corrected, largest = {}, 0.0
    for rank, (name, value) in enumerate(sorted(p_values.items(), key=lambda pair: pair[1])):
        largest = max(largest, min(1.0, (len(p_values) - rank) * value))
        corrected[name] = largest
    return {name: corrected[name] for name in p_values}


def _centered_kernel(scores_P: np.ndarray) -> np.ndarray:
    distances = np.abs(scores_P[:, None] - scores_P)
    apart = distances[np.triu_indices(len(scores_P), 1)]
    bandwidth = np.median(apart) if np.median(apart) > 0 else 1.0
    kernel = np.exp(-(distances**2) / (2 * bandwidth**2))
    return kernel - kernel.mean(axis=0) - kernel.mean(axis=1)[:, None] + kernel.mean()
