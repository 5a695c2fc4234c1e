"""If statements with else and elif, and ternaries."""

from random import Random

from sparse_jax.data.programs.assignments import action
from sparse_jax.data.programs.expressions import comparison, condition, operand
from sparse_jax.data.programs.layout import indented
from sparse_jax.data.programs.names import Scope


def if_only(rng: Random, names: Scope) -> list[str]:
    return [f"if {condition(rng, names)}:", *indented(action(rng, names))]


def if_equal(rng: Random, names: Scope) -> list[str]:
    return [f"if {names.number} == {operand(rng, names)}:", *indented(action(rng, names))]


def if_else(rng: Random, names: Scope) -> list[str]:
    return [*if_only(rng, names), "else:", *indented(action(rng, names))]


def if_elif(rng: Random, names: Scope) -> list[str]:
    """An elif tests the name that the if tested."""
    lines = [f"if {comparison(rng, names)}:", *indented(action(rng, names))]
    lines += [f"elif {comparison(rng, names)}:", *indented(action(rng, names))]
    if rng.random() < 0.4:
        lines += ["else:", *indented(action(rng, names))]
    return lines


def ternary(rng: Random, names: Scope) -> list[str]:
    """`y = x if x > 3 else 3`: the condition ends with else, not with a colon."""
    test = condition(rng, names)
    return [f"{names.text} = {names.number} if {test} else {operand(rng, names)}"]
