"""Tasks about what a variable holds: a set or a string, the other name of a swap."""

from random import Random

from sparse_jax.data.programs.assignments import bind_number, swap
from sparse_jax.data.programs.names import Scope
from sparse_jax.tasks.setting import Setting


def set_or_string(draw: Setting) -> tuple[str, str]:
    """A name bound to `set()` goes on with `.add`, one bound to `""` with ` +=`."""
    names = draw.scope()
    return _fill(draw, names, names.text)


def set_or_string_fixedvarname(draw: Setting) -> tuple[str, str]:
    """The same with one name, `current`, in every prompt."""
    return _fill(draw, draw.scope(), "current")


def _fill(draw: Setting, names: Scope, name: str) -> tuple[str, str]:
    before, pad = draw.place(names, _empty_set, _empty_text)
    lines, indent, element = draw.between(names), pad, names.number
    if not lines and draw.rng.random() < 0.67:
        lines, indent, element = [f"for {names.item} in {names.items}:"], f"{pad}    ", names.item
    between = "".join(f"{pad}{line}\n" for line in lines) + indent
    return (
        f"{before}{pad}{name} = set()\n{between}{name}«.add»({element})\n",
        f'{before}{pad}{name} = ""\n{between}{name}« +=» {element}\n',
    )


def _empty_set(rng: Random, names: Scope) -> list[str]:
    return [f"{names.text} = set()"]


def _empty_text(rng: Random, names: Scope) -> list[str]:
    return [f'{names.text} = ""']


def var_swap(draw: Setting) -> tuple[str, str]:
    """`x, y = y,` ends with the name that the line began with; so does `y, x = x,`.

    In functions, where the generated programs have swaps too; under an if only the shifted prompts have one.
    """
    one, other = draw.answers(2)
    names = draw.scope(one, other)._replace(number=one, other=other)
    if draw.rng.random() < 0.5:
        names = names._replace(number=other, other=one)
    before, pad = draw.body(names, swap, bind_number)
    first, second = (
        f"{before}{pad}{left}, {right} = {right},« {left}»\n" for left, right in ((one, other), (other, one))
    )
    return first, second
