"""Names of leaves and first-match rules."""

import jax.numpy as jnp
import optax
import pytest

from sparse_jax.inputs import InputError
from sparse_jax.trees import first_match, map_named, named_leaves

TREE = {"layers": {"mlp": {"up": {"kernel": 1, "bias": 2}}}, "embed": {"kernel": 3}, "none": None}


def test_leaves_have_slash_separated_names():
    assert named_leaves(TREE) == {"embed/kernel": 3, "layers/mlp/up/bias": 2, "layers/mlp/up/kernel": 1}
    state = optax.adam(1e-3).init({"w": jnp.zeros(2)})
    assert "0/mu/w" in named_leaves(state)


def test_the_first_rule_that_covers_the_whole_name_decides():
    rules = (("layers/.*/kernel", "a"), (".*kernel", "b"), ("layers", "never"), (".*", "c"))
    assert {name: first_match(rules, name) for name in named_leaves(TREE)} == {
        "embed/kernel": "b",
        "layers/mlp/up/bias": "c",
        "layers/mlp/up/kernel": "a",
    }


def test_a_leaf_that_no_rule_covers_is_an_error():
    with pytest.raises(InputError, match="no rule covers 'layers/mlp/up/bias'"):
        first_match((("layers", 1),), "layers/mlp/up/bias")


def test_map_named_hands_over_the_name():
    doubled = map_named(lambda name, x, y: (name, x + y), {"a": {"b": 1}}, {"a": {"b": 2}})
    assert doubled == {"a": {"b": ("a/b", 3)}}
