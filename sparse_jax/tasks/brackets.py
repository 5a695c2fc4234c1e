"""Tasks about lists and dictionaries: how many brackets close, a colon or a comma."""

from random import Random

from sparse_jax.data.programs.containers import elements
from sparse_jax.data.programs.expressions import digit
from sparse_jax.data.programs.names import scope, variable
from sparse_jax.data.programs.words import NOUNS
from sparse_jax.tasks.context import anywhere


def bracket_counting(rng: Random) -> tuple[str, str]:
    """`rows = [[1, 2` closes with `]]`, `rows = [1, 2` with `]`; likewise for two lists in a list or not."""
    names = scope(rng)
    before, pad = anywhere(rng, names)
    if rng.random() < 0.7:
        target, inner = names.items, elements(rng)
    else:
        target, inner = f"{names.number}, {names.other}", f"{elements(rng)}], [{elements(rng)}"
    return (
        f"{before}{pad}{target} = [[{inner}«]]\n»",
        f"{before}{pad}{target} = [{inner}«]\n»",
    )


def bracket_brace(rng: Random) -> tuple[str, str]:
    """The first element of a dictionary is followed by a colon, that of a list by a comma."""
    names = scope(rng)
    before, pad = anywhere(rng, names)
    mark, draw = rng.choice((('"', _noun), ('"', _noun), ("", digit), ("", variable)))
    first, second = draw(rng), draw(rng)
    return (
        f"{before}{pad}{names.items} = {{{mark}{first}«{mark}:» {digit(rng)}}}\n",
        f"{before}{pad}{names.items} = [{mark}{first}«{mark},» {mark}{second}{mark}]\n",
    )


def _noun(rng: Random) -> str:
    return rng.choice(NOUNS)
