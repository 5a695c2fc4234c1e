"""Tasks about opening files: the end of the call, the mode."""

from sparse_jax.data.programs.files import HANDLES, open_file, with_file
from sparse_jax.data.programs.words import FILE_ENDINGS, READ_STEMS, WRITE_STEMS
from sparse_jax.tasks.setting import Setting


def with_as(draw: Setting) -> tuple[str, str]:
    """A with statement goes on with ` as` after the call, an assignment with a new line.

    The tokenizer joins a closing bracket to a line end behind it, so the choice is already made at the
    bracket: `")` before ` as`, `")\\n` at the end of an assignment.
    """
    rng, names = draw.rng, draw.scope()
    before, pad = draw.place(names, with_file, open_file)
    handle = rng.choice(HANDLES)
    if rng.random() < 0.6:
        stems, mode = rng.choice(((READ_STEMS, "r"), (WRITE_STEMS, "w")))
        call, close = f'open("{rng.choice(stems)}{_ending(draw)}", "{mode}', '")'
    else:
        call, close = f"open({names.text}", ")"
    return (
        f"{before}{pad}with {call}«{close}» as {handle}:\n{pad}    {handle}.close()\n",
        f"{before}{pad}{handle} = {call}«{close}\n»",
    )


def with_open(draw: Setting) -> tuple[str, str]:
    """`input.txt` is opened to read, `output.txt` to write."""
    rng = draw.rng
    before, pad = draw.place(draw.scope(), with_file, open_file)
    handle, ending = rng.choice(HANDLES), _ending(draw)
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


def _ending(draw: Setting) -> str:
    """What follows the first word of a file's name: `_planets.txt`, or `.txt`."""
    middle = f"_{draw.plural(draw.noun())}" if draw.rng.random() < 0.6 else ""
    return f"{middle}.{draw.rng.choice(FILE_ENDINGS)}"
