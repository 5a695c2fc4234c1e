"""The parts that programs are made of: heads that look something up, answers, prompts."""

from collections.abc import Callable
from random import Random
from typing import NamedTuple

from sparse_jax.faithfulness.planted import ANSWER, CONFIG, SCORE, Blueprint, Wire
from sparse_jax.tasks.pair import Pair

FILLERS = ".,;"
# Prompts that end with a question ask at their last position.
BODY = CONFIG.context - 1
# q and k are divided by the square root of the head's width.
QUERY = SCORE * CONFIG.d_head**0.5
# A sink so low that the head always attends, to all tokens alike.
NO_SINK = -30.0
# A channel that is 1 or 0 decides between two answers, together with their offsets.
TWO_WAY = 2 * ANSWER


class Source(NamedTuple):
    """How a program is made: its blueprint, and what draws a pair of its task."""

    blueprint: Callable[[], Blueprint]
    draw: Callable[[Random], Pair]


def fillers(rng: Random, count: int = BODY) -> list[str]:
    """Symbols that mean nothing."""
    return [rng.choice(FILLERS) for _ in range(count)]


def replaced(symbols: list[str], at: int, symbol: str) -> list[str]:
    """The symbols with another at one place."""
    return [*symbols[:at], symbol, *symbols[at + 1 :]]


def lookup_head(layer: int, asks: str, has: str, value: str, target: str) -> tuple[Wire, ...]:
    """Head 0 attends from tokens with `asks` to those with `has`, and moves their `value` to `target`."""
    return (
        Wire(layer, "q", asks, 0, QUERY),
        Wire(layer, "k", has, 0, 1.0),
        Wire(layer, "v", value, 0, 1.0),
        Wire(layer, "attn_out", 0, target, 1.0),
    )


def either(channel: str, plus: str, minus: str) -> dict[str, dict[str, float]]:
    """The unembedding of a channel that is 1 for the answer `plus` and -1 for `minus`."""
    return {channel: {plus: ANSWER, minus: -ANSWER}}
