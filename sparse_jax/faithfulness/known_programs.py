"""Eight programs written as weights, whose circuits are known, with the tasks that they do.

A prompt has 8 symbols, one token each. Letters, marks and so on are residual channels that the embedding
writes; "." "," ";" write none unless it is said. q0, k0, v0 are the channels of the first head. The answer to
a prompt is worked out from how it was drawn, never by the model.

>>> program = make_program("copy")
>>> program.task.pairs("test", 1, 0)
[Pair(prompt=',,,.a,;?', counterfactual=',,,.b,;?', answer='a', wrong='b')]
>>> program.truth
Circuit(copy in copy: 7 nodes, 4 edges; nats: target 0.150)
>>> round(program.loss(), 3)
0.003
"""

import math
from collections.abc import Callable
from random import Random
from typing import NamedTuple

from sparse_jax.faithfulness.planted import ANSWER, CONFIG, SCORE, SINK, Blueprint, Program, Wire, build
from sparse_jax.inputs import require_choice
from sparse_jax.tasks.own import FileTask, pairs_task
from sparse_jax.tasks.pair import Pair

FILLERS = ".,;"
COUNT = 512  # pairs, no prompt in two of them
# Prompts that end with a question ask at their last position.
BODY = CONFIG.context - 1
# q and k are divided by the square root of the head's width.
QUERY = SCORE * CONFIG.d_head**0.5
# A sink so low that the head always attends, to all tokens alike.
NO_SINK = -30.0
# A channel that is 1 or 0 decides between two answers, together with their offsets.
TWO_WAY = 2 * ANSWER

Draw = Callable[[Random], Pair]


class Source(NamedTuple):
    """How a program is made: its blueprint, and what draws a pair of its task."""

    blueprint: Callable[[], Blueprint]
    draw: Draw


def _fillers(rng: Random, count: int = BODY) -> list[str]:
    return [rng.choice(FILLERS) for _ in range(count)]


def _with(symbols: list[str], at: int, symbol: str) -> list[str]:
    return [*symbols[:at], symbol, *symbols[at + 1 :]]


def _head(layer: int, asks: str, has: str, value: str, target: str) -> tuple[Wire, ...]:
    """Head 0 attends from tokens with `asks` to those with `has`, and moves their `value` to `target`."""
    return (
        Wire(layer, "q", asks, 0, QUERY),
        Wire(layer, "k", has, 0, 1.0),
        Wire(layer, "v", value, 0, 1.0),
        Wire(layer, "attn_out", 0, target, 1.0),
    )


def _either(channel: str, plus: str, minus: str) -> dict[str, dict[str, float]]:
    """The unembedding of a channel that is 1 for the answer `plus` and -1 for `minus`."""
    return {channel: {plus: ANSWER, minus: -ANSWER}}


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
        circuit=_head(0, "asks", "is_letter", "letter", "copied"),
        unembedding=_either("copied", "a", "b"),
        sinks={(0, 0): SINK},
    )


def _draw_copy(rng: Random) -> Pair:
    body, at = _fillers(rng), rng.randrange(BODY)
    one, other = rng.sample("ab", 2)
    return Pair("".join(_with(body, at, one)) + "?", "".join(_with(body, at, other)) + "?", one, other)


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
            *_head(1, "key", "previous", "value", "found"),
        ),
        unembedding=_either("found", "a", "b"),
        sinks={(0, 0): sink, (1, 0): SINK},
    )


def _draw_induction(rng: Random) -> Pair:
    values = {"p": rng.choice("ab"), "q": rng.choice("ab")}
    asked, other = rng.sample("pq", 2)
    blocks = [key + value for key, value in values.items()] + _fillers(rng, BODY - 4)
    rng.shuffle(blocks)
    prompt = "".join(blocks) + asked
    if values[asked] != values[other] and rng.random() < 0.5:
        return Pair(prompt, "".join(blocks) + other, values[asked], values[other])
    wrong = {"a": "b", "b": "a"}[values[asked]]
    return Pair(prompt, prompt.replace(asked + values[asked], asked + wrong), values[asked], wrong)


def brackets() -> Blueprint:
    """Are the brackets before "?" two or more deep: "d" (deep) or "s" (shallow)?

    Layer 0: a head without queries or keys attends to all 8 tokens alike; v0 reads bracket (1 for "(", -1 for
    ")"), so attn_out writes the depth. Neuron 0 is relu(depth - 1), and mlp_out writes it to deep.
    """
    return Blueprint(
        channels=("bracket", "depth", "deep"),
        embedding={"(": {"bracket": 1}, ")": {"bracket": -1}},
        circuit=(
            Wire(0, "v", "bracket", 0, float(CONFIG.context)),
            Wire(0, "attn_out", 0, "depth", 1.0),
            Wire(0, "mlp_neuron", "depth", 0, 1.0),
            Wire(0, "mlp_out", 0, "deep", 1.0),
        ),
        unembedding={"deep": {"d": TWO_WAY, "s": -TWO_WAY}},
        biases={(0, "mlp_neuron", 0): -1.0},
        sinks={(0, 0): NO_SINK},
        offsets={"d": -ANSWER, "s": ANSWER},
    )


def _depth(symbols: list[str]) -> int:
    """The depth at the end, -1 if a bracket closes what was not open."""
    depth = 0
    for symbol in symbols:
        depth += {"(": 1, ")": -1}.get(symbol, 0)
        if depth < 0:
            return -1
    return depth


def _draw_brackets(rng: Random) -> Pair:
    while True:
        body = [rng.choice("(()" + FILLERS[:2]) for _ in range(BODY)]
        changed = _with(body, rng.randrange(BODY), rng.choice("()" + FILLERS))
        depths = _depth(body), _depth(changed)
        if min(depths) >= 0 and max(depths) <= 3 and (depths[0] >= 2) != (depths[1] >= 2):
            answers = ["d" if depth >= 2 else "s" for depth in depths]
            return Pair("".join(body) + "?", "".join(changed) + "?", *answers)


def quotes() -> Blueprint:
    """Which quote opened the string and has to close it?

    Layer 0: neuron 0 is on at ", neuron 1 at '; mlp_out writes their sum to quote and their difference to
    kind. Layer 1: q0 is a bias, the same at every token; k0 reads quote, v0 reads kind, attn_out writes it to
    seen. This is how the paper's circuit for quotes works, with as many nodes and edges: 12 and 9.
    """
    return Blueprint(
        channels=("double", "single", "quote", "kind", "seen"),
        embedding={'"': {"double": 1}, "'": {"single": 1}},
        circuit=(
            Wire(0, "mlp_neuron", "double", 0, 1.0),
            Wire(0, "mlp_neuron", "single", 1, 1.0),
            Wire(0, "mlp_out", 0, "quote", 1.0),
            Wire(0, "mlp_out", 1, "quote", 1.0),
            Wire(0, "mlp_out", 0, "kind", 1.0),
            Wire(0, "mlp_out", 1, "kind", -1.0),
            Wire(1, "k", "quote", 0, 1.0),
            Wire(1, "v", "kind", 0, 1.0),
            Wire(1, "attn_out", 0, "seen", 1.0),
        ),
        unembedding=_either("seen", '"', "'"),
        biases={(1, "q", 0): QUERY},
        sinks={(1, 0): SINK},
    )


def _draw_quotes(rng: Random) -> Pair:
    text, at = [rng.choice("abcd") for _ in range(CONFIG.context)], rng.randrange(BODY)
    one, other = rng.sample("\"'", 2)
    return Pair("".join(_with(text, at, one)), "".join(_with(text, at, other)), one, other)


def counting() -> Blueprint:
    """Are there exactly two a before "?": "y" or "n"? (One to three are.)

    Layer 0: a head without queries or keys attends to all 8 tokens alike; v0 reads is_a, so attn_out writes
    their count. Neuron 0 is relu(count - 1), neuron 1 is relu(count - 2); mlp_out writes neuron 0 minus
    twice neuron 1 to two, which is 0, 1, 0 for a count of 1, 2, 3.
    """
    return Blueprint(
        channels=("is_a", "count", "two"),
        embedding={"a": {"is_a": 1}},
        circuit=(
            Wire(0, "v", "is_a", 0, float(CONFIG.context)),
            Wire(0, "attn_out", 0, "count", 1.0),
            Wire(0, "mlp_neuron", "count", 0, 1.0),
            Wire(0, "mlp_neuron", "count", 1, 1.0),
            Wire(0, "mlp_out", 0, "two", 1.0),
            Wire(0, "mlp_out", 1, "two", -2.0),
        ),
        unembedding={"two": {"y": TWO_WAY, "n": -TWO_WAY}},
        biases={(0, "mlp_neuron", 0): -1.0, (0, "mlp_neuron", 1): -2.0},
        sinks={(0, 0): NO_SINK},
        offsets={"y": -ANSWER, "n": ANSWER},
    )


def _draw_counting(rng: Random) -> Pair:
    places = rng.sample(range(BODY), rng.choice((2, 3)))
    more = _fillers(rng)
    for at in places:
        more = _with(more, at, "a")
    less = _with(more, places[0], rng.choice(FILLERS))
    answers = {1: "n", 2: "y", 3: "n"}
    members = [("".join(body) + "?", answers[body.count("a")]) for body in (more, less)]
    rng.shuffle(members)
    (prompt, answer), (counterfactual, wrong) = members
    return Pair(prompt, counterfactual, answer, wrong)


def lookup() -> Blueprint:
    """A table of the last symbol: p and s give "y", q and r give "n".

    The embedding writes two signs, x and y: p (1, 1), q (1, -1), r (-1, 1), s (-1, -1), and no weighted sum
    of them tells the two answers apart. Layer 0: neuron 0 is relu(x + y - 1), on at p; neuron 1 is
    relu(-x - y - 1), on at s; mlp_out writes both to same.
    """
    signs = {"p": (1, 1), "q": (1, -1), "r": (-1, 1), "s": (-1, -1)}
    return Blueprint(
        channels=("x", "y", "same"),
        embedding={key: {"x": x, "y": y} for key, (x, y) in signs.items()},
        circuit=(
            Wire(0, "mlp_neuron", "x", 0, 1.0),
            Wire(0, "mlp_neuron", "y", 0, 1.0),
            Wire(0, "mlp_neuron", "x", 1, -1.0),
            Wire(0, "mlp_neuron", "y", 1, -1.0),
            Wire(0, "mlp_out", 0, "same", 1.0),
            Wire(0, "mlp_out", 1, "same", 1.0),
        ),
        unembedding={"same": {"y": TWO_WAY, "n": -TWO_WAY}},
        biases={(0, "mlp_neuron", 0): -1.0, (0, "mlp_neuron", 1): -1.0},
        offsets={"y": -ANSWER, "n": ANSWER},
    )


def _draw_lookup(rng: Random) -> Pair:
    body, table = "".join(_fillers(rng)), {"y": "ps", "n": "qr"}
    answer, wrong = rng.sample("yn", 2)
    return Pair(body + rng.choice(table[answer]), body + rng.choice(table[wrong]), answer, wrong)


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
            *_head(0, "asks", "selects", "chosen", "wanted"),
            *_head(1, "wanted", "name", "sign", "found"),
        ),
        unembedding=_either("found", "+", "-"),
        sinks={(0, 0): SINK, (1, 0): SINK},
    )


def _draw_composition(rng: Random) -> Pair:
    body, places = _fillers(rng), rng.sample(range(BODY), 3)
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


def distractor() -> Blueprint:
    """The letter, a or b, that ends the prompt, beside four paths that never change the answer.

    Layer 0: neuron 0 is relu(letter), where letter is 1 for a and -1 for b; mlp_out writes 2 x neuron 0 - 1
    to seen, which the unembedding reads: 3 nodes and 2 edges.
    Not in the circuit: head 0 of layer 0 finds c or d, which always agrees with the letter, and writes it to
    hint; neuron 1 is relu(-letter) and goes to total; the unembedding adds hint and total to both answers
    alike. Head 1 counts "."; neurons 2 and 3 both read their number, and one adds it to seen while the other
    subtracts it. Head 0 of layer 1 would turn the answer round at "!", which no prompt contains.
    """
    return Blueprint(
        channels=(
            "letter",
            "seen",
            "is_letter",
            "is_hint",
            "agrees",
            "hint",
            "total",
            "alarm",
            "dot",
            "dots",
        ),
        embedding={
            "a": {"letter": 1, "is_letter": 1},
            "b": {"letter": -1, "is_letter": 1},
            "c": {"is_hint": 1, "agrees": 1},
            "d": {"is_hint": 1, "agrees": -1},
            "!": {"alarm": 1},
            ".": {"dot": 1},
        },
        circuit=(Wire(0, "mlp_neuron", "letter", 0, 1.0), Wire(0, "mlp_out", 0, "seen", 2.0)),
        others=(
            *_head(0, "is_letter", "is_hint", "agrees", "hint"),
            Wire(0, "mlp_neuron", "letter", 1, -1.0),
            Wire(0, "mlp_out", 1, "total", 1.0),
            Wire(0, "v", "dot", 2, float(CONFIG.context)),
            Wire(0, "attn_out", 2, "dots", 1.0),
            Wire(0, "mlp_neuron", "dots", 2, 1.0),
            Wire(0, "mlp_neuron", "dots", 3, 1.0),
            Wire(0, "mlp_out", 2, "seen", 1.0),
            Wire(0, "mlp_out", 3, "seen", -1.0),
            Wire(1, "q", "is_letter", 0, QUERY),
            Wire(1, "k", "alarm", 0, 1.0),
            Wire(1, "v", "alarm", 0, 1.0),
            Wire(1, "attn_out", 0, "seen", 10.0),
        ),
        unembedding={
            **_either("seen", "a", "b"),
            "hint": {"a": ANSWER, "b": ANSWER},
            "total": {"a": ANSWER, "b": ANSWER},
        },
        biases={(0, "mlp_out", "seen"): -1.0},
        sinks={(0, 0): SINK, (0, 1): NO_SINK, (1, 0): SINK},
    )


def _draw_distractor(rng: Random) -> Pair:
    body, at = _fillers(rng), rng.randrange(BODY)
    one, other = rng.sample("ab", 2)
    prompt, counterfactual = (
        "".join(_with(body, at, {"a": "c", "b": "d"}[end])) + end for end in (one, other)
    )
    return Pair(prompt, counterfactual, one, other)


PROGRAMS = {
    "copy": Source(copy, _draw_copy),
    "induction": Source(induction, _draw_induction),
    "brackets": Source(brackets, _draw_brackets),
    "quotes": Source(quotes, _draw_quotes),
    "counting": Source(counting, _draw_counting),
    "lookup": Source(lookup, _draw_lookup),
    "composition": Source(composition, _draw_composition),
    "distractor": Source(distractor, _draw_distractor),
}


def make_program(name: str, seed: int = 0) -> Program:
    """A program of the table; `seed` is that of its pairs. Raises InputError for a name not in the table."""
    require_choice("program", name, PROGRAMS)
    source = PROGRAMS[name]
    about = (source.blueprint.__doc__ or "").split("\n")[0]
    return build(name, about, source.blueprint(), _task(name, source.draw, seed))


def _task(name: str, draw: Draw, seed: int) -> FileTask:
    """COUNT pairs of which no two share a prompt."""
    rng = Random(f"{name}/{seed}")
    seen: set[str] = set()
    pairs: list[Pair] = []
    while len(pairs) < COUNT:
        pair = draw(rng)
        if not seen & {pair.prompt, pair.counterfactual}:
            seen |= {pair.prompt, pair.counterfactual}
            pairs.append(pair)
    return pairs_task(pairs, name)
