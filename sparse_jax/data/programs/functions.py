"""Functions: parameters with and without defaults, predicates, functions without parameters, lambdas."""

from collections.abc import Callable
from random import Random

from sparse_jax.data.programs.expressions import comparison, digit
from sparse_jax.data.programs.layout import indented
from sparse_jax.data.programs.names import Scope, distinct, function_name, phrase, scope, variable
from sparse_jax.data.programs.words import ADJECTIVES

Body = Callable[[Random, Scope], list[str]]


def parameters(rng: Random, names: Scope) -> str:
    """One to three parameters; once one has a default, so have all after it."""
    chosen = (names.number, names.items, names.other)[: rng.randrange(1, 4)]
    default = "=None" if rng.random() < 0.5 else ""
    return ", ".join([chosen[0], *(f"{name}{default}" for name in chosen[1:])])


def function(rng: Random, body: Body) -> list[str]:
    """A function of one to three parameters that returns a name of its scope."""
    names = scope(rng)
    lines = [f"def {function_name(rng)}({parameters(rng, names)}):"]
    lines += indented(docstring(rng) + body(rng, names))
    return [*lines, f"    return {rng.choice(names[:4])}"]


def plain_function(rng: Random, body: Body) -> list[str]:
    """A function without parameters; its name is a noun as often as a verb and a noun."""
    name = variable(rng) if rng.random() < 0.6 else function_name(rng)
    names = scope(rng)
    lines = [f"def {name}():", f"    {names.number} = {digit(rng)}", *indented(body(rng, names))]
    return [*lines, f"    return {names.number}"]


def predicate(rng: Random) -> list[str]:
    """Returns True from inside a branch or a loop, and False after it."""
    names = scope(rng)
    adjective = rng.choice(ADJECTIVES)
    test = [f"if {comparison(rng, names)}:", "    return True"]
    if rng.random() < 0.6:
        head = f"def is_{adjective}({names.number}, {names.other}):"
    else:
        head = f"def has_{adjective}({names.items}, {names.number}):"
        test = [f"for {names.item} in {names.items}:", *indented(test)]
    return [head, *indented([*docstring(rng), *test, "return False"])]


def docstring(rng: Random) -> list[str]:
    """One line of documentation, in a third of the cases."""
    return [f'"""{phrase(rng).capitalize()}."""'] if rng.random() < 0.33 else []


def lambda_line(rng: Random, names: Scope) -> list[str]:
    """`double = lambda x: x * 2`."""
    name, argument = distinct(rng, 2)
    return [f"{name} = lambda {argument}: {argument} {rng.choice('+-*')} {digit(rng)}"]
