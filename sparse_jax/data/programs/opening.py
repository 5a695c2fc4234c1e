"""Opening files: with statements and assignments, modes that go with the file's name."""

from random import Random

from sparse_jax.data.programs.names import Scope, plural
from sparse_jax.data.programs.words import FILE_ENDINGS, NOUNS, READ_STEMS, WRITE_STEMS

HANDLES = ("f", "file", "handle")


def file_name(rng: Random, stem: str) -> str:
    """`input.txt`, or `input_planets.txt`."""
    middle = f"_{plural(rng, rng.choice(NOUNS))}" if rng.random() < 0.6 else ""
    return f"{stem}{middle}.{rng.choice(FILE_ENDINGS)}"


def opened(rng: Random, names: Scope) -> tuple[str, bool]:
    """The call that opens a file, and whether it opens it to write."""
    writes = rng.random() < 0.5
    if rng.random() < 0.25:
        return f"open({names.text})", False
    name = file_name(rng, rng.choice(WRITE_STEMS if writes else READ_STEMS))
    mode = "w" if writes else "r"
    return f'open("{name}", "{mode}")', writes


def with_file(rng: Random, names: Scope) -> list[str]:
    call, writes = opened(rng, names)
    handle = rng.choice(HANDLES)
    body = f"{handle}.write({names.text})" if writes else f"{names.number} = {handle}.read()"
    return [f"with {call} as {handle}:", f"    {body}"]


def open_file(rng: Random, names: Scope) -> list[str]:
    call, writes = opened(rng, names)
    handle = rng.choice(HANDLES)
    use = f"{handle}.write({names.text})" if writes else f"{names.number} = {handle}.read()"
    return [f"{handle} = {call}", use, f"{handle}.close()"]
