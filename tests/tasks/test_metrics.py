"""Metrics of pairs against values worked out by hand and in NumPy."""

import math

import numpy as np
import pytest

from sparse_jax.tasks.metrics import (
    METRICS,
    accuracy,
    binary_loss,
    full_vocabulary_loss,
    logit_difference,
    summarize,
)

# Two pairs over a vocabulary of three; the candidates are tokens 0 and 2.
LOGITS = np.array([[[2.0, 0.0, 1.0], [0.0, 5.0, 0.0]], [[1.0, 1.0, 4.0], [3.0, 0.0, 6.0]]], np.float32)
CANDIDATES = np.array([[[0, 2], [2, 0]], [[0, 2], [2, 0]]], np.int32)


def test_the_loss_is_over_the_two_candidates_and_the_mean_of_both_members():
    softplus = [[math.log1p(math.exp(-d)) for d in row] for row in ((1.0, 0.0), (-3.0, 3.0))]
    np.testing.assert_allclose(binary_loss(LOGITS, CANDIDATES), np.mean(softplus, axis=1), rtol=1e-6)


def test_accuracy_counts_members_and_a_tie_is_a_miss():
    np.testing.assert_array_equal(accuracy(LOGITS, CANDIDATES), [0.5, 0.5])


def test_logit_difference_is_right_minus_wrong():
    np.testing.assert_allclose(logit_difference(LOGITS, CANDIDATES), [0.5, 0.0])


def test_the_full_vocabulary_loss_sees_the_third_token():
    log_z = np.log(np.exp(LOGITS.astype(np.float64)).sum(-1))
    right = np.array([[2.0, 0.0], [1.0, 6.0]])
    np.testing.assert_allclose(
        full_vocabulary_loss(LOGITS, CANDIDATES), (log_z - right).mean(axis=1), rtol=1e-6
    )
    assert (full_vocabulary_loss(LOGITS, CANDIDATES) > binary_loss(LOGITS, CANDIDATES)).all()


def test_every_metric_is_one_figure_per_pair():
    assert {name: metric(LOGITS, CANDIDATES).shape for name, metric in METRICS.items()} == dict.fromkeys(
        ("loss", "accuracy", "logit_difference", "full_vocabulary_loss"), (2,)
    )


def test_standard_error_over_pairs():
    estimate = summarize(np.array([1.0, 2.0, 3.0, 6.0]))
    assert estimate.mean == 3.0
    # squared deviations 4 + 1 + 0 + 9 = 14; 14 / 3 / 4
    assert estimate.standard_error == pytest.approx(math.sqrt(14 / 12))
    assert math.isnan(summarize(np.array([2.0])).standard_error)
