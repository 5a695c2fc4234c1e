"""Mappings become dataclasses, or one line that says why not."""

import dataclasses

import numpy as np
import pytest

from sparse_jax.inputs import (
    InputError,
    from_mapping,
    nearest,
    require,
    require_choice,
    require_once,
    shown,
    whole,
)


@dataclasses.dataclass(frozen=True)
class Settings:
    count: int
    rate: float = 0.5
    names: tuple[str, ...] = ()
    limit: float | None = None
    fast: bool = False


def test_lists_become_tuples_and_whole_numbers_floats_and_nothing_else_is_converted():
    built = from_mapping(Settings, {"count": 3, "rate": 1, "names": ["a", "b"], "limit": 2}, "s")
    assert built == Settings(3, 1.0, ("a", "b"), 2.0)
    assert isinstance(built.rate, float) and isinstance(built.limit, float)
    assert from_mapping(Settings, {"count": 1, "limit": None}, "s").limit is None
    scalars = from_mapping(Settings, {"count": np.int64(3), "rate": np.float32(0.5)}, "s")
    assert repr(scalars) == repr(Settings(3, 0.5))


@pytest.mark.parametrize(
    ("mapping", "said"),
    [
        ({"count": 1.5}, "s.count: 1.5 is a float; valid: int"),
        ({"count": True}, "s.count: True is a bool; valid: int"),
        ({"count": 1, "fast": "yes"}, "s.fast: 'yes' is a str; valid: bool"),
        ({"count": 1, "limit": "x"}, "s.limit: 'x' is a str; valid: float or NoneType"),
        ({"count": 1, "rat": 2}, "s.rat: unknown field; did you mean 'rate'? valid: count, fast"),
        ({"count": 1, "rate": float("inf")}, "s.rate: inf is not valid; valid: a finite number"),
        ({"count": 1, "limit": float("nan")}, "s.limit: nan is not valid; valid: a finite number"),
        ({}, "s.count: missing; it has no default"),
    ],
)
def test_what_does_not_fit_is_named(mapping, said):
    with pytest.raises(InputError) as error:
        from_mapping(Settings, mapping, "s")
    assert said in str(error.value)


def test_choices_and_conditions():
    assert nearest("gleu", ["relu", "gelu"]) == "did you mean 'gelu'? valid: gelu, relu"
    assert nearest("zzz", ["a"]) == "valid: a"
    require(True, "x", 1, "anything")
    with pytest.raises(InputError, match="x: 1 is not valid; valid: 2"):
        require(False, "x", 1, "2")
    with pytest.raises(InputError, match="x: 'b' is unknown; valid: a"):
        require_choice("x", "b", ["a"])


def test_what_is_given_twice_is_named():
    require_once("tasks", ("a", "b"))
    with pytest.raises(InputError, match="^tasks: 'b' is given 2 times; valid: each once$"):
        require_once("tasks", ("a", "b", "c", "b"))


@pytest.mark.parametrize("value", [3, np.int64(3), np.array(3)])
def test_whole_numbers_are_those_of_numpy_too(value):
    assert type(whole("x", value)) is int and whole("x", value) == 3


@pytest.mark.parametrize("value", [True, np.True_, 3.0, "3", None])
def test_what_is_no_whole_number_is_named(value):
    with pytest.raises(InputError, match="^x: .* is not valid; valid: a whole number$"):
        whole("x", value)


@pytest.mark.parametrize("value", [["pair"] * 9999, "x" * 9999, np.eye(9), {n: [n] * 9 for n in range(99)}])
def test_what_a_message_shows_of_a_value_is_short_and_one_line(value):
    assert len(shown(value)) <= 200 and "\n" not in shown(value)
    with pytest.raises(InputError) as error:
        require(False, "x", value, "2")
    assert str(error.value) == f"x: {shown(value)} is not valid; valid: 2"


def test_a_long_message_keeps_its_beginning_and_its_end():
    said = str(InputError(f"x: {'y' * 9999}; valid: 2"))
    assert len(said) < 2100 and said.startswith("x: y") and said.endswith("y; valid: 2")
