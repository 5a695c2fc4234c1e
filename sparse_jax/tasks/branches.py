"""Tasks about if statements: what ends a condition, what follows else and elif."""

from random import Random

from sparse_jax.data.programs.assignments import step
from sparse_jax.data.programs.expressions import comparison, operand
from sparse_jax.data.programs.names import scope
from sparse_jax.data.programs.words import COMMON_NAMES
from sparse_jax.tasks.context import anywhere


def if_ternary(rng: Random) -> tuple[str, str]:
    """The condition of an if statement ends with a colon, that of a ternary with ` else`."""
    names = scope(rng)
    before, pad = anywhere(rng, names)
    test = comparison(rng, names)
    return (
        f"{before}{pad}if {test}«:\n»{pad}    {step(rng, names)[0]}\n",
        f"{before}{pad}{names.text} = {names.number} if {test}« else» {operand(rng, names)}\n",
    )


def if_equals(rng: Random) -> tuple[str, str]:
    """A name is compared after if and bound at the start of a line."""
    names = scope(rng)
    before, pad = anywhere(rng, names)
    value = operand(rng, names)
    return (
        f"{before}{pad}if {names.number}« ==» {value}:\n{pad}    {step(rng, names)[0]}\n",
        f"{before}{pad}{names.number}« =» {value}\n",
    )


def var_if(rng: Random) -> tuple[str, str]:
    """A comparison ends with a colon after if, and with its line when it is assigned."""
    names = scope(rng)
    before, pad = anywhere(rng, names)
    test = comparison(rng, names)
    return (
        f"{before}{pad}if {test}«:\n»{pad}    {step(rng, names)[0]}\n",
        f"{before}{pad}{names.text} = {test}«\n»",
    )


def else_elif(rng: Random) -> tuple[str, str]:
    """Else is followed by a colon, elif by the name that the if compared."""
    names = scope(rng)
    while names.number not in COMMON_NAMES:  # it is an answer, so it has to be a single token
        names = scope(rng)
    before, pad = anywhere(rng, names)
    body = f"\n{pad}    {step(rng, names)[0]}\n"
    start = f"{before}{pad}if {comparison(rng, names)}:{body}{pad}"
    return (
        f"{start}else«:\n»{pad}    {step(rng, names)[0]}\n",
        f"{start}elif« {names.number}» == {operand(rng, names)}:{body}",
    )
