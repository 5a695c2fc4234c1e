"""Texts: quotes of both kinds, f-strings, strings that grow, string methods."""

from random import Random

from sparse_jax.data.programs.names import Scope, phrase
from sparse_jax.data.programs.words import NOUNS, SPEAKERS

QUOTES = ("'", '"')
METHODS = ("strip()", "lower()", "upper()", "title()")


def quote(rng: Random) -> str:
    """Either quote, decided anew for every text."""
    return rng.choice(QUOTES)


def quoted(rng: Random) -> str:
    mark = quote(rng)
    return f"{mark}{phrase(rng)}{mark}"


def word(rng: Random) -> str:
    """A quoted single word, as an element or a key; here the quotes are always double."""
    return f'"{rng.choice(NOUNS)}"'


def say(rng: Random, names: Scope) -> list[str]:
    """`print("green apple")`: the text closes with the quote that opened it."""
    return [f"{rng.choice(SPEAKERS)}({quoted(rng)})"]


def report(rng: Random, names: Scope) -> list[str]:
    """`print(f"green apple {count}")`: a brace follows the words, as it never does without the f."""
    mark = quote(rng)
    return [f"{rng.choice(SPEAKERS)}(f{mark}{phrase(rng)} {{{names.number}}}{mark})"]


def label(rng: Random, names: Scope) -> list[str]:
    return [f"{names.text} = {quoted(rng)}"]


def change_case(rng: Random, names: Scope) -> list[str]:
    return [f"{names.text} = {names.text}.{rng.choice(METHODS)}"]
