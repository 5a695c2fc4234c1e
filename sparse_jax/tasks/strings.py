"""Tasks about texts: the quote that closes one, the brace that only an f-string has."""

from random import Random

from sparse_jax.data.programs.names import phrase, scope
from sparse_jax.data.programs.strings import quote
from sparse_jax.data.programs.words import SPEAKERS
from sparse_jax.tasks.context import anywhere


def single_double_quote(rng: Random) -> tuple[str, str]:
    """`print('low tree` ends with `')`, `print("low tree` with `")`."""
    before, pad = anywhere(rng, scope(rng))
    speaker, text = rng.choice(SPEAKERS), phrase(rng)
    single, double = (f"{before}{pad}{speaker}({mark}{text}«{mark})\n»" for mark in "'\"")
    return single, double


def fstring_brace(rng: Random) -> tuple[str, str]:
    """`print(f"low tree` goes on with ` {`; without the f the text ends."""
    names = scope(rng)
    before, pad = anywhere(rng, names)
    speaker, text, mark = rng.choice(SPEAKERS), phrase(rng), quote(rng)
    return (
        f"{before}{pad}{speaker}(f{mark}{text}« {{»{names.number}}}{mark})\n",
        f"{before}{pad}{speaker}({mark}{text}«{mark})\n»",
    )
