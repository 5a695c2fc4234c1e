"""Tasks about loops: how their line goes on, and how the next line is indented."""

from random import Random

from sparse_jax.data.programs.assignments import step
from sparse_jax.data.programs.expressions import comparison, digit
from sparse_jax.data.programs.loops import loop_index
from sparse_jax.data.programs.names import function_name, scope
from sparse_jax.tasks.context import anywhere, in_function


def for_while(rng: Random) -> tuple[str, str]:
    """`for price` goes on with ` in`, `while price` with a colon."""
    names = scope(rng)
    before, pad = anywhere(rng, names)
    body = f"{pad}    {step(rng, names)[0]}\n"
    return (
        f"{before}{pad}for {names.item}« in» {names.items}:\n{body}",
        f"{before}{pad}while {names.item}«:\n»{body}",
    )


def enumerate_range(rng: Random) -> tuple[str, str]:
    """Two loop variables go over `enumerate`, one over `range`."""
    names = scope(rng)
    before, pad = anywhere(rng, names)
    index = loop_index(rng, names)
    body = f"{pad}    {step(rng, names)[0]}\n"
    return (
        f"{before}{pad}for {index}, {names.item} in« enumerate»({names.items}):\n{body}",
        f"{before}{pad}for {index} in« range»({digit(rng)}):\n{body}",
    )


def indent_for(rng: Random) -> tuple[str, str]:
    """The line after a for line is indented one level more, the line after an assignment as before."""
    names = scope(rng)
    before, pad = in_function(rng, names)
    return (
        f"{before}{pad}for {names.item} in {names.items}:\n«{' ' * 7}» {step(rng, names)[0]}\n",
        f"{before}{pad}{names.text} = {names.item} in {names.items}\n«{' ' * 3}» return {names.text}\n",
    )


def while_return_true(rng: Random) -> tuple[str, str]:
    """Inside a branch, the line after `while True:` is indented more, that after `return True` less."""
    names = scope(rng)
    start = f"def {function_name(rng)}({names.number}, {names.other}):\n    if {comparison(rng, names)}:\n"
    return (
        f"{start}        while True:\n«{' ' * 11}» {step(rng, names)[0]}\n",
        f"{start}        return True\n«{' ' * 3}» return False\n",
    )
