"""How the generated programs name their variables, functions, classes and texts."""

from random import Random
from typing import NamedTuple

from sparse_jax.data.programs.words import ADJECTIVES, COMMON_NAMES, NOUNS, VERBS


class Scope(NamedTuple):
    """The names that the statements of one block share, so that what they use has been bound."""

    number: str
    other: str
    text: str
    items: str
    item: str


def variable(rng: Random) -> str:
    """A name for a single thing: often a common one, else a noun, sometimes a compound."""
    kind = rng.random()
    if kind < 0.55:
        return rng.choice(COMMON_NAMES)
    if kind < 0.85:
        return rng.choice(NOUNS)
    return compound(rng)


def compound(rng: Random) -> str:
    return f"{rng.choice(ADJECTIVES)}_{rng.choice(NOUNS)}"


def distinct(rng: Random, count: int) -> list[str]:
    """`count` different variable names."""
    names: list[str] = []
    while len(names) < count:
        name = variable(rng)
        if name not in names:
            names.append(name)
    return names


def plural(rng: Random, item: str) -> str:
    """A name for many of `item`, which takes an s or is called something else."""
    if len(item) == 1 or item.endswith(("s", "x", "h", "y")):
        return rng.choice(("items", "values", "numbers"))
    return f"{item}s"


def scope(rng: Random) -> Scope:
    """Draws the names of one block, all different."""
    number, other, text, item = distinct(rng, 4)
    return Scope(number, other, text, plural(rng, item), item)


def function_name(rng: Random) -> str:
    return f"{rng.choice(VERBS)}_{rng.choice(NOUNS)}"


def class_name(rng: Random) -> str:
    noun = rng.choice(NOUNS).capitalize()
    return noun if rng.random() < 0.6 else rng.choice(ADJECTIVES).capitalize() + noun


def phrase(rng: Random) -> str:
    """One to three words of text."""
    kind = rng.random()
    if kind < 0.4:
        return rng.choice(NOUNS)
    if kind < 0.8:
        return f"{rng.choice(ADJECTIVES)} {rng.choice(NOUNS)}"
    return f"{rng.choice(VERBS)} {rng.choice(ADJECTIVES)} {rng.choice(NOUNS)}"
