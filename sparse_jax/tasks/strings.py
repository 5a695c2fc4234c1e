"""Tasks about texts: the quote that closes one, the brace that only an f-string has."""

from sparse_jax.data.programs.strings import label, quote, report, say
from sparse_jax.data.programs.words import SPEAKERS
from sparse_jax.tasks.setting import Setting


def single_double_quote(draw: Setting) -> tuple[str, str]:
    """`print('low tree` ends with `')`, `print("low tree` with `")`."""
    before, pad = draw.place(draw.scope(), say, label)
    speaker, text = draw.rng.choice(SPEAKERS), draw.phrase()
    single, double = (f"{before}{pad}{speaker}({mark}{text}«{mark})\n»" for mark in "'\"")
    return single, double


def fstring_brace(draw: Setting) -> tuple[str, str]:
    """`print(f"low tree` goes on with ` {`; without the f the text ends."""
    names = draw.scope()
    before, pad = draw.place(names, say, report)
    speaker, text, mark = draw.rng.choice(SPEAKERS), draw.phrase(), quote(draw.rng)
    return (
        f"{before}{pad}{speaker}(f{mark}{text}« {{»{names.number}}}{mark})\n",
        f"{before}{pad}{speaker}({mark}{text}«{mark})\n»",
    )
