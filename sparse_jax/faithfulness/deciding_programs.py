"""Programs whose neurons decide: bracket depth, quotes, counting, a table, and one amid distractors.

See `known_programs`.
"""

from random import Random

from sparse_jax.faithfulness.planted import ANSWER, CONFIG, SINK, Blueprint, Wire
from sparse_jax.faithfulness.wiring import (
    BODY,
    FILLERS,
    NO_SINK,
    QUERY,
    TWO_WAY,
    either,
    fillers,
    lookup_head,
    replaced,
)
from sparse_jax.tasks.pair import Pair


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


def draw_brackets(rng: Random) -> Pair:
    while True:
        body = [rng.choice("(()" + FILLERS[:2]) for _ in range(BODY)]
        changed = replaced(body, rng.randrange(BODY), rng.choice("()" + FILLERS))
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
        unembedding=either("seen", '"', "'"),
        biases={(1, "q", 0): QUERY},
        sinks={(1, 0): SINK},
    )


def draw_quotes(rng: Random) -> Pair:
    text, at = [rng.choice("abcd") for _ in range(CONFIG.context)], rng.randrange(BODY)
    one, other = rng.sample("\"'", 2)
    return Pair("".join(replaced(text, at, one)), "".join(replaced(text, at, other)), one, other)


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


def draw_counting(rng: Random) -> Pair:
    places = rng.sample(range(BODY), rng.choice((2, 3)))
    more = fillers(rng)
    for at in places:
        more = replaced(more, at, "a")
    less = replaced(more, places[0], rng.choice(FILLERS))
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


def draw_lookup(rng: Random) -> Pair:
    body, table = "".join(fillers(rng)), {"y": "ps", "n": "qr"}
    answer, wrong = rng.sample("yn", 2)
    return Pair(body + rng.choice(table[answer]), body + rng.choice(table[wrong]), answer, wrong)


def distractor() -> Blueprint:
    """The letter, a or b, that ends the prompt, beside four paths that never change the answer.

    Layer 0: neuron 0 is relu(letter), where letter is 1 for a and -1 for b; mlp_out writes 2 x neuron 0 - 1
    to seen, which the unembedding reads: 3 nodes and 2 edges.
    Not in the circuit: head 0 of layer 0 finds c or d, which always agrees with the letter, and writes it to
    hint; neuron 1 is relu(-letter) and goes to total; the unembedding adds hint and total to both answers
    alike. Head 1 takes the share of "."; neurons 2 and 3 both read it, one adds it to seen and the other
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
            *lookup_head(0, "is_letter", "is_hint", "agrees", "hint"),
            Wire(0, "mlp_neuron", "letter", 1, -1.0),
            Wire(0, "mlp_out", 1, "total", 1.0),
            Wire(0, "v", "dot", 2, 2.0),
            Wire(0, "attn_out", 2, "dots", 1.0),
            Wire(0, "mlp_neuron", "dots", 2, 1.0),
            Wire(0, "mlp_neuron", "dots", 3, 1.0),
            Wire(0, "mlp_out", 2, "seen", 4.0),
            Wire(0, "mlp_out", 3, "seen", -4.0),
            Wire(1, "q", "is_letter", 0, QUERY),
            Wire(1, "k", "alarm", 0, 1.0),
            Wire(1, "v", "alarm", 0, 1.0),
            Wire(1, "attn_out", 0, "seen", 10.0),
        ),
        unembedding={
            **either("seen", "a", "b"),
            "hint": {"a": ANSWER, "b": ANSWER},
            "total": {"a": ANSWER, "b": ANSWER},
        },
        biases={(0, "mlp_out", "seen"): -1.0},
        sinks={(0, 0): SINK, (0, 1): NO_SINK, (1, 0): SINK},
    )


def draw_distractor(rng: Random) -> Pair:
    body, at = fillers(rng), rng.randrange(BODY)
    one, other = rng.sample("ab", 2)
    prompt, counterfactual = (
        "".join(replaced(body, at, {"a": "c", "b": "d"}[end])) + end for end in (one, other)
    )
    return Pair(prompt, counterfactual, one, other)
