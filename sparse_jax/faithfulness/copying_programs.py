"""Programs whose heads find a symbol and copy it: copy, induction, two heads that compose.

See `known_programs`.
"""

import math
from random import Random

from sparse_jax.faithfulness.planted import CONFIG, SCORE, SINK, Blueprint, Wire
from sparse_jax.faithfulness.wiring import (
    BODY,
    QUERY,
    either,
    fillers,
    lookup_head,
    replaced,
)
from sparse_jax.tasks.pair import Pair


def copy() -> Blueprint:
    """The one letter before "?".

    Layer 0: q0 is on at "?" (reads asks), k0 at a letter (reads is_letter), v0 carries which letter (reads
    letter, 1 for a and -1 for b), attn_out writes it to copied, which the unembedding reads.
    """
    return Blueprint(
        channels=("asks", "is_letter", "letter", "copied"),
        embedding={
            "?": {"asks": 1},
            "a": {"is_letter": 1, "letter": 1},
            "b": {"is_letter": 1, "letter": -1},
        },
        circuit=lookup_head(0, "asks", "is_letter", "letter", "copied"),
        unembedding=either("copied", "a", "b"),
        sinks={(0, 0): SINK},
    )


def draw_copy(rng: Random) -> Pair:
    body, at = fillers(rng), rng.randrange(BODY)
    one, other = rng.sample("ab", 2)
    return Pair("".join(replaced(body, at, one)) + "?", "".join(replaced(body, at, other)) + "?", one, other)


def induction() -> Blueprint:
    """A key (p or q) is followed by a value (a or b); what followed the last key before?

    Layer 0, the previous token: attn_in reads the position as an angle (cos, sin), q0 and q1 are that of
    the position before (a rotation, four weights), k0 and k1 their own, so the score is highest one back; v0
    reads key (1 for p, -1 for q), and attn_out writes it to previous. Layer 1: q0 reads key, k0 reads
    previous, v0 reads value (1 for a, -1 for b), attn_out writes it to found.
    """
    angle, score = 2 * math.pi / 10, 5 * QUERY
    turn = {0: (math.cos(angle), math.sin(angle)), 1: (-math.sin(angle), math.cos(angle))}
    previous = tuple(
        Wire(0, "q", channel, target, score * factor)
        for target, factors in turn.items()
        for channel, factor in zip(("cos", "sin"), factors)
    )
    # half way between the score of the position before and that of its neighbors
    sink = 5 * SCORE * (1 + math.cos(angle)) / 2
    return Blueprint(
        channels=("cos", "sin", "key", "value", "previous", "found"),
        embedding={"p": {"key": 1}, "q": {"key": -1}, "a": {"value": 1}, "b": {"value": -1}},
        positions={
            "cos": [math.cos(angle * t) for t in range(CONFIG.context)],
            "sin": [math.sin(angle * t) for t in range(CONFIG.context)],
        },
        circuit=(
            *previous,
            Wire(0, "k", "cos", 0, 1.0),
            Wire(0, "k", "sin", 1, 1.0),
            Wire(0, "v", "key", 0, 1.0),
            Wire(0, "attn_out", 0, "previous", 1.0),
            *lookup_head(1, "key", "previous", "value", "found"),
        ),
        unembedding=either("found", "a", "b"),
        sinks={(0, 0): sink, (1, 0): SINK},
    )


def draw_induction(rng: Random) -> Pair:
    values = {"p": rng.choice("ab"), "q": rng.choice("ab")}
    asked, other = rng.sample("pq", 2)
    blocks = [key + value for key, value in values.items()] + fillers(rng, BODY - 4)
    rng.shuffle(blocks)
    prompt = "".join(blocks) + asked
    if values[asked] != values[other] and rng.random() < 0.5:
        return Pair(prompt, "".join(blocks) + other, values[asked], values[other])
    wrong = {"a": "b", "b": "a"}[values[asked]]
    return Pair(prompt, prompt.replace(asked + values[asked], asked + wrong), values[asked], wrong)


def composition() -> Blueprint:
    """Two heads: "1" or "2" says whether the sign of A or of B is asked for; A and B are +, a and b are -.

    Layer 0: q0 is on at "?" (reads asks), k0 at "1" and "2" (reads selects), v0 carries which (reads chosen,
    1 or -1), attn_out writes it to wanted. Layer 1 looks for that name: q0 reads wanted, k0 reads name (1 for
    A and a, -1 for B and b), v0 reads sign, attn_out writes it to found.
    """
    names = {"A": (1, 1), "a": (1, -1), "B": (-1, 1), "b": (-1, -1)}
    return Blueprint(
        channels=("asks", "selects", "chosen", "name", "sign", "wanted", "found"),
        embedding={
            "?": {"asks": 1},
            "1": {"selects": 1, "chosen": 1},
            "2": {"selects": 1, "chosen": -1},
            **{symbol: {"name": name, "sign": sign} for symbol, (name, sign) in names.items()},
        },
        circuit=(
            *lookup_head(0, "asks", "selects", "chosen", "wanted"),
            *lookup_head(1, "wanted", "name", "sign", "found"),
        ),
        unembedding=either("found", "+", "-"),
        sinks={(0, 0): SINK, (1, 0): SINK},
    )


def draw_composition(rng: Random) -> Pair:
    body, places = fillers(rng), rng.sample(range(BODY), 3)
    written = [rng.choice("Aa"), rng.choice("Bb")]
    asked = rng.randrange(2)
    changed, asked_of_other = list(written), asked
    if written[0].isupper() != written[1].isupper() and rng.random() < 0.5:
        asked_of_other = 1 - asked
    else:
        changed[asked] = changed[asked].swapcase()
    members = []
    for symbols, number in ((written, asked), (changed, asked_of_other)):
        text = list(body)
        for at, symbol in zip(places, (*symbols, "12"[number])):
            text[at] = symbol
        members += ["".join(text) + "?", "+" if symbols[number].isupper() else "-"]
    prompt, answer, counterfactual, wrong = members
    return Pair(prompt, counterfactual, answer, wrong)
