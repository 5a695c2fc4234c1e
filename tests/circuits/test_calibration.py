"""The fit of scale and shift against a minimum found by another optimizer."""

import numpy as np
import scipy.optimize

from sparse_jax.circuits.calibration import calibrate
from sparse_jax.tasks.metrics import binary_loss


def test_sixteen_steps_reach_the_minimum():
    rng = np.random.default_rng(0)
    candidates = np.tile(np.array([[1, 3], [3, 1]], np.int32), (64, 1, 1))
    logits = rng.normal(size=(64, 2, 5)).astype(np.float32)
    # a noisy margin that is too small, and a bias towards token 3
    logits[:, 0, 1] += 0.3
    logits[:, 1, 3] += 1.5

    def loss(fit):
        scaled = np.exp(fit[0]) * logits
        scaled[..., 1] += fit[1]
        return float(binary_loss(scaled, candidates).mean())

    best = scipy.optimize.minimize(loss, [0.0, 0.0], method="Nelder-Mead").fun
    calibration = calibrate(logits, candidates, 16)
    reached = float(binary_loss(calibration.apply(logits), candidates).mean())
    assert reached < loss([0.0, 0.0]) - 0.01
    assert abs(reached - best) < 1e-3
    assert calibration.scale > 0
    # only the two candidates' shifts move, by opposite amounts
    saved = calibration.to_json()
    assert saved["shift"].keys() == {"1", "3"}
    assert abs(saved["shift"]["1"] + saved["shift"]["3"]) < 1e-4
