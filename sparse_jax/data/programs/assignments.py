"""Assignments and other one-line statements."""

from random import Random

from sparse_jax.data.programs.expressions import arithmetic, comparison, digit
from sparse_jax.data.programs.names import Scope
from sparse_jax.data.programs.strings import report, say
from sparse_jax.data.programs.words import COMMON_NAMES


def bind_number(rng: Random, names: Scope) -> list[str]:
    return [f"{names.number} = {digit(rng)}"]


def compute(rng: Random, names: Scope) -> list[str]:
    return [f"{rng.choice(names[:3])} = {arithmetic(rng, names)}"]


def bind_comparison(rng: Random, names: Scope) -> list[str]:
    """`flag = count > 3`: a comparison that ends its line, with no colon."""
    return [f"{names.text} = {comparison(rng, names)}"]


def bind_membership(rng: Random, names: Scope) -> list[str]:
    return [f"{names.text} = {names.item} in {names.items}"]


def step(rng: Random, names: Scope) -> list[str]:
    return [f"{names.number} {rng.choice('+-')}= {digit(rng)}"]


def swap(rng: Random, names: Scope) -> list[str]:
    """`x, y = y, x`, mostly of short names; sometimes `x, y = y, x + y`."""
    short = rng.random() < 0.7
    one, other = rng.sample(COMMON_NAMES if short else (names.number, names.other, names.items), 2)
    last = f"{one} {rng.choice('+-*')} {other}" if rng.random() < 0.25 else one
    return [f"{one}, {other} = {other}, {last}"]


def show_number(rng: Random, names: Scope) -> list[str]:
    return [f"print({names.number})"]


ACTIONS = (bind_number, compute, step, step, say, say, report, show_number)


def action(rng: Random, names: Scope) -> list[str]:
    """One short line, as the body of a loop or a branch."""
    return rng.choice(ACTIONS)(rng, names)
