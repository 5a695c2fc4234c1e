"""A pair of prompts with opposite answers."""

from collections.abc import Sequence
from dataclasses import dataclass

from sparse_jax.inputs import InputError, require_utf8


@dataclass(frozen=True)
class Pair:
    """After `prompt` the next token is `answer`, not `wrong`; after `counterfactual` it is `wrong`."""

    prompt: str
    counterfactual: str
    answer: str
    wrong: str


def check_pair(pair: Pair, where: str) -> None:
    """Raises InputError, beginning with `where`, if the pair asks nothing: texts empty, equal or no text."""
    for field in ("prompt", "counterfactual", "answer", "wrong"):
        text = getattr(pair, field)
        if not text:
            raise InputError(f"{where}: {field} is empty; valid: at least one character")
        require_utf8(text, f"{where}: {field}")
    if pair.prompt == pair.counterfactual:
        raise InputError(f"{where}: prompt and counterfactual are both {pair.prompt!r}; valid: two texts")
    if pair.answer == pair.wrong:
        raise InputError(f"{where}: answer and wrong are both {pair.answer!r}; valid: two completions")


def deciding(one: Sequence, other: Sequence) -> tuple[slice, slice]:
    """Where two texts or token lists differ: the part of each without the common start and end."""
    shorter = min(len(one), len(other))
    start = next((i for i in range(shorter) if one[i] != other[i]), shorter)
    end = next((i for i in range(shorter - start) if one[-1 - i] != other[-1 - i]), shorter - start)
    return slice(start, len(one) - end), slice(start, len(other) - end)
