"""Tasks about what a variable holds: a set or a string, the other name of a swap."""

from random import Random

from sparse_jax.data.programs.names import Scope, function_name, phrase, scope, variable
from sparse_jax.data.programs.strings import quote
from sparse_jax.data.programs.words import COMMON_NAMES
from sparse_jax.tasks.context import anywhere


def set_or_string(rng: Random) -> tuple[str, str]:
    """A name bound to `set()` goes on with `.add`, one bound to `""` with ` +=`."""
    names = scope(rng)
    return _fill(rng, names, names.text)


def set_or_string_fixedvarname(rng: Random) -> tuple[str, str]:
    """The same with one name, `current`, in every prompt."""
    return _fill(rng, scope(rng), "current")


def _fill(rng: Random, names: Scope, name: str) -> tuple[str, str]:
    before, pad = anywhere(rng, names)
    kind = rng.random()
    element = names.number
    if kind < 0.5:
        between = f"{pad}for {names.item} in {names.items}:\n    {pad}"
        element = names.item
    elif kind < 0.75:
        between = pad
    else:
        mark = quote(rng)
        between = f"{pad}print({mark}{phrase(rng)}{mark})\n{pad}"
    return (
        f"{before}{pad}{name} = set()\n{between}{name}«.add»({element})\n",
        f'{before}{pad}{name} = ""\n{between}{name}« +=» {element}\n',
    )


def var_swap(rng: Random) -> tuple[str, str]:
    """`x, y = y,` ends with the name that the line began with; so does `y, x = x,`."""
    one, other = rng.sample(COMMON_NAMES, 2)
    third = variable(rng)
    while third in (one, other):
        third = variable(rng)
    given = [one, other, third][: rng.randrange(2, 4)]
    rng.shuffle(given)
    start = f"def {function_name(rng)}({', '.join(given)}):\n    "
    first, second = (
        f"{start}{left}, {right} = {right},« {left}»\n" for left, right in ((one, other), (other, one))
    )
    return first, second
