"""Lists, nested lists, dictionaries, and sets or strings that are filled step by step."""

from random import Random

from sparse_jax.data.programs.expressions import digit
from sparse_jax.data.programs.names import Scope, variable
from sparse_jax.data.programs.strings import quote, word


def elements(rng: Random) -> str:
    """Two to four list elements: numbers, or names."""
    draw = digit if rng.random() < 0.7 else variable
    return ", ".join(draw(rng) for _ in range(rng.randrange(2, 5)))


def flat_list(rng: Random, names: Scope) -> list[str]:
    return [f"{names.items} = [{elements(rng)}]"]


def nested_list(rng: Random, names: Scope) -> list[str]:
    """`rows = [[1, 2], [3, 4]]` or `rows = [[1, 2]]`: two brackets close at the end."""
    if rng.random() < 0.5:
        return [f"{names.items} = [[{elements(rng)}]]"]
    return [f"{names.items} = [[{elements(rng)}], [{elements(rng)}]]"]


def two_lists(rng: Random, names: Scope) -> list[str]:
    """Two names bound to two lists, inside an outer list or not."""
    left = f"{names.number}, {names.other} ="
    lists = f"[{elements(rng)}], [{elements(rng)}]"
    return [f"{left} [{lists}]" if rng.random() < 0.5 else f"{left} {lists}"]


def word_list(rng: Random, names: Scope) -> list[str]:
    return [f"{names.items} = [{', '.join(word(rng) for _ in range(rng.randrange(2, 4)))}]"]


def dictionary(rng: Random, names: Scope) -> list[str]:
    """Keys are words, numbers or names, each followed by a colon."""
    key = rng.choice((word, word, digit, variable))
    pairs = ", ".join(f"{key(rng)}: {digit(rng)}" for _ in range(rng.randrange(1, 4)))
    return [f"{names.items} = {{{pairs}}}"]


def lookup(rng: Random, names: Scope) -> list[str]:
    if rng.random() < 0.5:
        return [f"{names.number} = {names.items}[{digit(rng)}]"]
    return [f"{names.items}[{word(rng)}] = {names.number}"]


def append(rng: Random, names: Scope) -> list[str]:
    return [f"{names.items}.append({names.number})"]


def comprehension(rng: Random, names: Scope) -> list[str]:
    return [f"{names.items} = [{names.item} for {names.item} in {names.items}]"]


def filled(rng: Random, names: Scope) -> list[str]:
    """A set that is added to, or a string that grows: what the name holds decides how it goes on."""
    name = "current" if rng.random() < 0.35 else names.text
    holds_set = rng.random() < 0.5
    start = f"{name} = set()" if holds_set else f'{name} = ""'

    def step(element: str) -> str:
        return f"{name}.add({element})" if holds_set else f"{name} += {element}"

    kind = rng.random()
    if kind < 0.55:
        return [start, f"for {names.item} in {names.items}:", f"    {step(names.item)}"]
    if kind < 0.8:
        return [start, step(names.number)]
    mark = quote(rng)
    return [start, f"print({mark}{names.text}{mark})", step(names.number)]
