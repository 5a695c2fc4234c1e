"""Gaussian process regression for a few dozen points: a smooth part, a linear part and noise."""

from typing import NamedTuple

import numpy as np
from scipy import linalg, optimize

# The kernel that fitting starts from, and its bounds. Inputs are in units of a search range, outputs have
# unit variance: shorter lengths, or less noise, than these are not to be learned from so few points.
START = (1.0, 0.5, 0.5, 0.3)
BOUNDS = ((0.05, 3.0), (0.1, 5.0), (0.01, 5.0), (0.1, 1.5))


class Kernel(NamedTuple):
    """Matern 3/2 with standard deviation `smooth` and a `length`, plus a linear part, plus noise.

    linear, noise: standard deviations of the weight of each input, and of an observation.
    """

    smooth: float
    length: float
    linear: float
    noise: float

    def covariance(self, a_NxD: np.ndarray, b_MxD: np.ndarray) -> np.ndarray:
        """Covariances [N, M] of the function without noise."""
        distance = np.linalg.norm(a_NxD[:, None] - b_MxD[None], axis=-1)
        scaled = np.sqrt(3) * distance / self.length
        return self.smooth**2 * (1 + scaled) * np.exp(-scaled) + self.linear**2 * a_NxD @ b_MxD.T


class GaussianProcess(NamedTuple):
    """A prior with mean 0, conditioned on observations.

    >>> process = condition(Kernel(1.0, 1.0, 0.0, 1.0), np.zeros((1, 1)), np.array([2.0]))
    >>> mean, deviation = process.predict(np.zeros((1, 1)))
    >>> mean.round(3), deviation.round(3)
    (array([1.]), array([0.707]))
    """

    kernel: Kernel
    x_NxD: np.ndarray
    y_N: np.ndarray
    factor_NxN: np.ndarray
    weights_N: np.ndarray

    def predict(self, x_MxD: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Means and standard deviations [M] of the function, without the noise of an observation."""
        across = self.kernel.covariance(self.x_NxD, x_MxD)
        solved = linalg.solve_triangular(self.factor_NxN, across, lower=True)
        prior = self.kernel.smooth**2 + self.kernel.linear**2 * (x_MxD**2).sum(axis=1)
        variance = prior - (solved**2).sum(axis=0)
        return across.T @ self.weights_N, np.sqrt(np.maximum(variance, 1e-12))

    def log_likelihood(self) -> float:
        """The logarithm of the density of the observations."""
        log_root = np.log(np.diag(self.factor_NxN)).sum()
        return float(-0.5 * self.y_N @ self.weights_N - log_root - 0.5 * len(self.y_N) * np.log(2 * np.pi))


def condition(kernel: Kernel, x_NxD: np.ndarray, y_N: np.ndarray) -> GaussianProcess:
    """The process given noisy observations `y_N` at `x_NxD`."""
    covariance = kernel.covariance(x_NxD, x_NxD) + kernel.noise**2 * np.eye(len(y_N))
    factor = np.linalg.cholesky(covariance)
    return GaussianProcess(kernel, x_NxD, y_N, factor, linalg.cho_solve((factor, True), y_N))


def fit(x_NxD: np.ndarray, y_N: np.ndarray) -> GaussianProcess:
    """The process whose kernel, within BOUNDS, makes the observations most likely."""

    def loss(logs: np.ndarray) -> float:
        return -condition(Kernel(*np.exp(logs)), x_NxD, y_N).log_likelihood()

    found = optimize.minimize(loss, np.log(START), bounds=np.log(BOUNDS), method="L-BFGS-B")
    return condition(Kernel(*np.exp(found.x)), x_NxD, y_N)
