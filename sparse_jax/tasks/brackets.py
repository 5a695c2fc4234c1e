"""Tasks about lists and dictionaries: how many brackets close, a colon or a comma."""

from random import Random

from sparse_jax.data.programs.containers import dictionary, nested_list, word_list
from sparse_jax.data.programs.expressions import digit
from sparse_jax.data.programs.names import Scope
from sparse_jax.tasks.setting import Setting


def bracket_counting(draw: Setting) -> tuple[str, str]:
    """`rows = [[1, 2` closes with `]]`, `rows = [1, 2` with `]`; likewise for two lists in a list or not."""
    names = draw.scope()
    before, pad = draw.place(names, nested_list, _unmatched)
    target, inner = names.items, draw.elements()
    if draw.rng.random() < 0.3:
        target = f"{names.number}, {names.other}"
        inner = f"{inner}], [{digit(draw.rng)}, {digit(draw.rng)}"
    return (
        f"{before}{pad}{target} = [[{inner}«]]\n»",
        f"{before}{pad}{target} = [{inner}«]\n»",
    )


def _unmatched(rng: Random, names: Scope) -> list[str]:
    """A comment with a bracket that nothing closes."""
    return [f"# {names.text} [ {names.item}"]


def bracket_brace(draw: Setting) -> tuple[str, str]:
    """The first element of a dictionary is followed by a colon, that of a list by a comma."""
    names = draw.scope()
    before, pad = draw.place(names, dictionary, word_list)

    def number() -> str:
        return digit(draw.rng)

    mark, element = draw.rng.choice((('"', draw.noun), ('"', draw.noun), ("", number), ("", draw.variable)))
    first, second = element(), element()
    return (
        f"{before}{pad}{names.items} = {{{mark}{first}«{mark}:» {number()}}}\n",
        f"{before}{pad}{names.items} = [{mark}{first}«{mark},» {mark}{second}{mark}]\n",
    )
