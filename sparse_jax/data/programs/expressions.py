"""Numbers, arithmetic, comparisons and conditions."""

from random import Random

from sparse_jax.data.programs.names import Scope

COMPARISONS = ("==", "==", ">", "<", ">=", "!=")


def digit(rng: Random) -> str:
    """A small number, as a program would hold one."""
    return str(rng.randrange(1, 10) if rng.random() < 0.7 else rng.randrange(10, 100))


def operand(rng: Random, names: Scope) -> str:
    return names.other if rng.random() < 0.4 else digit(rng)


def arithmetic(rng: Random, names: Scope) -> str:
    return f"{names.number} {rng.choice('+-*')} {operand(rng, names)}"


def comparison(rng: Random, names: Scope) -> str:
    return f"{names.number} {rng.choice(COMPARISONS)} {operand(rng, names)}"


def condition(rng: Random, names: Scope) -> str:
    """What an if, a ternary or an elif tests."""
    kind = rng.random()
    if kind < 0.7:
        return comparison(rng, names)
    if kind < 0.85:
        return names.number
    return f"{names.item} in {names.items}"
