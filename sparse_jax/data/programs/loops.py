"""For and while loops."""

from random import Random

from sparse_jax.data.programs.assignments import action, step
from sparse_jax.data.programs.expressions import comparison, digit
from sparse_jax.data.programs.layout import indented
from sparse_jax.data.programs.names import Scope


def for_each(rng: Random, names: Scope) -> list[str]:
    body = f"{names.number} += {names.item}" if rng.random() < 0.4 else action(rng, names)[0]
    return [f"for {names.item} in {names.items}:", f"    {body}"]


def for_range(rng: Random, names: Scope) -> list[str]:
    stop = digit(rng) if rng.random() < 0.6 else names.number
    return [f"for {loop_index(rng, names)} in range({stop}):", *indented(action(rng, names))]


def for_enumerate(rng: Random, names: Scope) -> list[str]:
    """Two loop variables, hence enumerate."""
    head = f"for {loop_index(rng, names)}, {names.item} in enumerate({names.items}):"
    return [head, *indented(action(rng, names))]


def loop_index(rng: Random, names: Scope) -> str:
    return rng.choice(("i", "j", "index", names.other, names.other))


def while_name(rng: Random, names: Scope) -> list[str]:
    """`while count:`, with a name that a for loop might have used."""
    name = rng.choice((names.number, names.item))
    return [f"while {name}:", f"    {name} -= {digit(rng)}"]


def while_comparison(rng: Random, names: Scope) -> list[str]:
    return [f"while {comparison(rng, names)}:", *indented(step(rng, names))]


def while_true(rng: Random, names: Scope) -> list[str]:
    lines = ["while True:", *indented(action(rng, names))]
    return [*lines, f"    if {comparison(rng, names)}:", "        break"]


def guarded_while_true(rng: Random, names: Scope) -> list[str]:
    return [f"if {comparison(rng, names)}:", *indented(while_true(rng, names))]
