"""What stands before the line that a task asks about: a few plain lines, at top level or in a function."""

from random import Random
from typing import NamedTuple

from sparse_jax.data.programs.assignments import bind_number, compute, show_number, step
from sparse_jax.data.programs.names import Scope, function_name

_PLAIN = (bind_number, compute, step, show_number)


class Place(NamedTuple):
    """Where a task's lines go: the text `before` them and the indentation `pad` of each of them."""

    before: str
    pad: str


def plain_lines(rng: Random, names: Scope, least: int, most: int, pad: str = "") -> str:
    """`least` to `most` lines about numbers: no quotes, lists or keywords that a task could ask about."""
    lines = (rng.choice(_PLAIN)(rng, names)[0] for _ in range(rng.randrange(least, most + 1)))
    return "".join(f"{pad}{line}\n" for line in lines)


def in_function(rng: Random, names: Scope) -> Place:
    """Inside a function of the block's names."""
    head = f"def {function_name(rng)}({names.number}, {names.items}, {names.other}):\n"
    return Place(head + plain_lines(rng, names, 0, 1, "    "), "    ")


def anywhere(rng: Random, names: Scope) -> Place:
    """Inside a function or at top level."""
    if rng.random() < 0.5:
        return in_function(rng, names)
    return Place(plain_lines(rng, names, 1, 2), "")


def before_definition(rng: Random, names: Scope) -> str:
    """Plain lines and the empty line that sets a definition apart, or nothing."""
    lines = plain_lines(rng, names, 0, 2)
    return f"{lines}\n" if lines else ""
