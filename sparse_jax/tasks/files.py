"""Tasks about opening files: the end of the call, the mode."""

from random import Random

from sparse_jax.data.programs.files import HANDLES, file_name
from sparse_jax.data.programs.names import scope
from sparse_jax.data.programs.words import READ_STEMS, WRITE_STEMS
from sparse_jax.tasks.context import anywhere


def with_as(rng: Random) -> tuple[str, str]:
    """A with statement goes on with ` as` after the call, an assignment with a new line.

    The tokenizer joins a closing bracket to a line end behind it, so the choice is already made at the
    bracket: `")` before ` as`, `")\\n` at the end of an assignment.
    """
    names = scope(rng)
    before, pad = anywhere(rng, names)
    handle = rng.choice(HANDLES)
    if rng.random() < 0.6:
        stem, mode = rng.choice(((READ_STEMS, "r"), (WRITE_STEMS, "w")))
        call, close = f'open("{file_name(rng, rng.choice(stem))}", "{mode}', '")'
    else:
        call, close = f"open({names.text}", ")"
    return (
        f"{before}{pad}with {call}«{close}» as {handle}:\n{pad}    {handle}.close()\n",
        f"{before}{pad}{handle} = {call}«{close}\n»",
    )


def with_open(rng: Random) -> tuple[str, str]:
    """`input.txt` is opened to read, `output.txt` to write."""
    before, pad = anywhere(rng, scope(rng))
    handle, ending = rng.choice(HANDLES), file_name(rng, "")
    start, rest = (
        ("with open(", f'") as {handle}:\n{pad}    {handle}.close()\n')
        if rng.random() < 0.5
        else (f"{handle} = open(", '")\n')
    )
    to_read, to_write = (
        f'{before}{pad}{start}"{rng.choice(stems)}{ending}", "«{mode}»{rest}'
        for stems, mode in ((READ_STEMS, "r"), (WRITE_STEMS, "w"))
    )
    return to_read, to_write
