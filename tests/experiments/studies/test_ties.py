"""Rules for the gradient at zeros of AbsTopK: their masks by hand, their values unchanged, their table."""

import jax
import numpy as np
import pytest

from experiments.studies.ties import RULES, TiesRow, format_ties, ties, with_rule
from sparse_jax.inputs import InputError
from sparse_jax.model import layers
from sparse_jax.topk.rows import abs_top_k

# five entries, three kept: a row with two nonzeros, one with four, one with none
X = np.array([[0, 2.0, 0, -1.0, 0], [4, 3.0, 0, -2.0, 1.0], [0, 0, 0, 0, 0]])
IN_FULL_ROW = [1, 1, 0, 1, 0]
PASSES = {
    "all": [[1, 1, 1, 1, 1], IN_FULL_ROW, [1, 1, 1, 1, 1]],
    "first": [[1, 1, 0, 1, 0], IN_FULL_ROW, [1, 1, 1, 0, 0]],
    "none": [[0, 1, 0, 1, 0], IN_FULL_ROW, [0, 0, 0, 0, 0]],
}


@pytest.mark.parametrize("rule", RULES)
def test_gradients_pass_where_the_rule_says_and_values_stay(rule):
    weights = np.arange(1.0, 16).reshape(3, 5)
    value, pull = jax.vjp(lambda x: with_rule(rule, x, 3), X)
    np.testing.assert_array_equal(value, abs_top_k(X, 3))
    np.testing.assert_array_equal(pull(weights.astype(value.dtype))[0], weights * PASSES[rule])


def test_a_rule_holds_in_every_layer_inside_and_nowhere_else_whatever_was_traced_before():
    gradient = jax.jit(jax.grad(lambda x: layers.abs_top_k(x, 3).sum()))
    for rule in RULES:
        with ties(rule):
            np.testing.assert_array_equal(gradient(X), PASSES[rule])
        np.testing.assert_array_equal(gradient(X), PASSES["all"])
    with pytest.raises(InputError, match="rule: 'al' is unknown; did you mean 'all'"):
        with_rule("al", X, 3)


def test_the_table_compares_models_of_one_seed():
    rows = [TiesRow("all", 0, 9, 2.5), TiesRow("none", 0, 9, 2.25), TiesRow("none", 1, 9, 2.0)]
    text = format_ties(rows)
    assert "| all | 2.5000 | - | +0.0000 |" in text
    assert "| none | 2.2500 | 2.0000 | -0.2500 |" in text and "| first | - | - | - |" in text
