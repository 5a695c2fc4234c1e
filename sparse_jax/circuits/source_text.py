"""Writes a listing as the text of a Python program that needs NumPy alone."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from tokenizers import Tokenizer

from sparse_jax.circuits.listing import FINAL_SCALE, Head, Knots, Listing, Logit, Scale, Step, Sum, Table

WIDTH = 110


def token_texts(tokenizer: Tokenizer, size: int) -> list[str]:
    """A different text for each token: what it stands for or, for parts of characters, its id."""
    texts = [tokenizer.decode([token], skip_special_tokens=False) for token in range(size)]
    seen: set[str] = set()
    for token, text in enumerate(texts):
        if text in seen or not text or "\N{REPLACEMENT CHARACTER}" in text:
            texts[token] = f"<{token}>"
        seen.add(texts[token])
    return texts


def load(code: str) -> Callable[[Sequence[str]], Mapping[str, float]]:
    """The function `logits` of a program."""
    found: dict[str, Any] = {}
    exec(compile(code, "circuit", "exec"), found)  # our own text; tokens stand in it as literals
    return found["logits"]


def written(listing: Listing, digits: int, texts: Sequence[str]) -> str:
    """The program as text, every number with so many significant digits."""
    return "\n".join(_Text(listing, digits, texts).lines()) + "\n"


class _Text:
    """Writes a listing."""

    def __init__(self, listing: Listing, digits: int, texts: Sequence[str]) -> None:
        self.listing, self.digits, self.texts = listing, digits, texts
        scales = [step for step in listing.steps if isinstance(step, Scale) and step.table.others]
        self.scales = {step.name for step in scales}
        self.readers: dict[str, list[str]] = {}
        for step in listing.steps:
            for source in _sources(step):
                self.readers.setdefault(source, []).append(step.name)
        for logit in listing.logits:
            for source, _ in logit.terms:
                self.readers.setdefault(source, []).append(repr(texts[logit.token]))

    def lines(self) -> Iterator[str]:
        body = [line for step in self.listing.steps for line in self.step(step)]
        body += self.outputs()
        used = "\n".join(body)
        if "gelu(" in used and "gelu_tanh(" not in used:
            yield "from math import erf"
            yield ""
        yield "import numpy as np"
        for name, text in _HELPERS.items():
            if re.search(rf"\b{name}\(", used):
                yield from ("", "", *text.splitlines())
        yield from ("", "", "def logits(tokens):")
        if "read(" in used:
            yield "    def read(table):"
            yield "        return np.array([table.get(token, 0.0) for token in tokens])"
            yield ""
        yield from body

    def step(self, step: Step) -> Iterator[str]:
        if isinstance(step, Scale):
            if step.name in self.scales:
                yield from self.assigned(
                    step.name, f"{self.read(step.table)} + {self.number(step.table.usual)}"
                )
        elif isinstance(step, Head):
            yield from self.head(step)
        else:
            yield from self.sum(step)

    def sum(self, step: Sum) -> Iterator[str]:
        yield f"    # {self.about(step)}"
        table = step.table or Table(0.0, {})
        usual = table.usual + (0.0 if step.scale in self.scales else step.shift)
        first = [self.read(table)] if table.others else []
        if step.by_position:
            first.append(f"{'+ ' if first else ''}{self.line(step.by_position, usual)}")
        terms = [self.term(value, name, bool(first) or i > 0) for i, (name, value) in enumerate(step.terms)]
        parts = [*first, *terms]
        if not parts:
            parts = [f"np.full(len(tokens), {self.number(step.constant + usual)})"]
        elif not step.by_position:
            parts.append(self.added(step.constant + usual))
        text = " ".join(filter(None, parts))
        if step.scale in self.scales:
            text = f"{step.scale} * ({text}) {self.added(step.shift)}".rstrip()
        if step.activation:
            text = f"{step.activation}({text})"
        if step.threshold:
            text = f"cut({text}, {self.number(step.threshold)})"
        yield from self.assigned(step.name, text)

    def head(self, step: Head) -> Iterator[str]:
        parts: list[str] = []
        for query, key, value in step.terms:
            if query and key:
                name = f"np.outer({query}, {key})"
            elif key:
                name = key
            else:
                name = f"{query}[:, None]" if query else ""
            parts.append(self.term(value, name, bool(parts)) if name else self.added(value, bool(parts)))
        text = " ".join(part for part in parts if part) or "0.0"
        if not any(query and key for query, key, _ in step.terms):
            text = f"np.zeros((len(tokens), len(tokens))) + {text}"
        sink = "" if step.sink is None else f", sink={self.number(step.sink)}"
        yield from self.assigned(step.name, f"attention({text}{sink})")

    def outputs(self) -> Iterator[str]:
        """The logits; two are opposite numbers, since what they have in common is left out."""
        texts = [repr(self.texts[logit.token]) for logit in self.listing.logits]
        yield ""
        yield "    # after the last token, less their mean"
        if len(texts) == 2:
            yield from self.assigned("first", self.logit(self.listing.logits[0]))
            yield f"    return {{{texts[0]}: first, {texts[1]}: -first}}"
            return
        yield "    return {"
        for text, logit in zip(texts, self.listing.logits):
            yield from wrapped(f"        {text}: {self.logit(logit)},", 12)
        yield "    }"

    def logit(self, logit: Logit) -> str:
        terms = [self.term(value, f"{name}[-1]", i > 0) for i, (name, value) in enumerate(logit.terms)]
        if logit.by_position:
            line = self.line(logit.by_position, 0.0, "len(tokens) - 1")
            terms.append(f"+ {line}" if terms else line)
        if terms and FINAL_SCALE in self.scales:
            terms = [f"{FINAL_SCALE}[-1] * ({' '.join(terms)})"]
        terms.append(self.added(logit.constant + logit.table.usual, bool(terms)))
        if logit.table.others:
            terms.append(f"+ {self.dictionary(logit.table.others)}.get(tokens[-1], 0.0)")
        return " ".join(filter(None, terms))

    def about(self, step: Sum) -> str:
        """What activates a node, and what reads it."""
        found = [
            f"{word} at {', '.join(repr(self.texts[token]) for token in tokens)}"
            for word, tokens in zip(("high", "low"), step.excited)
            if tokens
        ]
        readers = ", ".join(dict.fromkeys(self.readers.get(step.name, ["nothing"])))
        return one_line(f"{'; '.join(found) or 'hardly varies'}; read by {readers}")

    def assigned(self, name: str, text: str) -> Iterator[str]:
        line = f"    {name} = {text}"
        # a sum may be broken only inside brackets
        yield from wrapped(line if len(line) <= WIDTH else f"    {name} = ({text})", 8)

    def read(self, table: Table) -> str:
        return f"read({self.dictionary(table.others)})"

    def line(self, knots: Knots, more: float, at_tokens: str = "range(len(tokens))") -> str:
        at = ", ".join(str(position) for position, _ in knots)
        values = ", ".join(self.number(value + more) for _, value in knots)
        return f"np.interp({at_tokens}, [{at}], [{values}])"

    def dictionary(self, others: Mapping[int, float]) -> str:
        """A table as a literal, largest entries first."""
        entries = sorted(others.items(), key=lambda entry: -abs(entry[1]))
        return "{" + ", ".join(f"{self.texts[token]!r}: {self.number(x)}" for token, x in entries) + "}"

    def term(self, value: float, name: str, follows: bool) -> str:
        """A product; with its sign before it if it follows others."""
        name = f"({name})" if " @ " in name else name
        if not follows:
            return f"{self.number(value)} * {name}"
        return f"{'-' if value < 0 else '+'} {self.number(abs(value))} * {name}"

    def added(self, value: float, follows: bool = True) -> str:
        if not follows:
            return self.number(value)
        return "" if value == 0 else f"{'-' if value < 0 else '+'} {self.number(abs(value))}"

    def number(self, value: float) -> str:
        """The number with the chosen digits; one above or below 1 is written without an exponent."""
        if np.isinf(value):
            return "np.inf"
        short = f"{value:.{self.digits}g}"
        return f"{float(short):.0f}" if "e+" in short else short


def _sources(step: Step) -> Iterator[str]:
    """The names of the nodes that a step reads."""
    if isinstance(step, Sum):
        for name, _ in step.terms:
            yield from re.findall(r"[a-z_]+(?:_\d+)+", name)
    elif isinstance(step, Head):
        for query, key, _ in step.terms:
            yield from filter(None, (query, key))


def one_line(text: str) -> str:
    """A comment that fits a line, cut where it does not."""
    return text if len(text) <= WIDTH - 6 else text[: WIDTH - 10] + " ..."


def wrapped(text: str, indent: int) -> Iterator[str]:
    """A statement, over several lines if it is long; broken after a comma or before a sign, in brackets."""
    start = text[: len(text) - len(text.lstrip())]
    pieces = [""]
    for token in _TOKENS.findall(text.strip()):
        ends = token.isspace() and pieces[-1].endswith(",")
        if ends or (token in ("+", "-") and pieces[-1].endswith(" ")):
            pieces.append("")
        pieces[-1] += "" if ends else token
    line = start
    for piece in pieces:
        space = " " if line.endswith(",") else ""
        if len(line) + len(space + piece.rstrip()) > WIDTH and line.strip():
            yield line.rstrip()
            line, space = " " * indent, ""
        line += space + piece
    yield line.rstrip()


# Quoted texts, single spaces, commas' ends, and what stands between them.
_TOKENS = re.compile(r"""'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"|[^'"\s]+|\s+""")


_HELPERS = {
    "attention": '''def attention(scores, sink=-np.inf):
    """Softmax over the tokens so far; a sink takes its share of every row."""
    scores = np.where(np.tri(len(scores), dtype=bool), scores, -np.inf)
    largest = np.maximum(scores.max(axis=1, keepdims=True), sink)
    weights = np.exp(scores - largest)
    return weights / (weights.sum(axis=1, keepdims=True) + np.exp(sink - largest))''',
    "cut": '''def cut(x, least):
    """AbsTopK: what is too small is 0."""
    return np.where(abs(x) >= least, x, 0.0)''',
    "gelu": """def gelu(x):
    return x * np.array([0.5 + 0.5 * erf(value / 2**0.5) for value in x])""",
    "gelu_tanh": """def gelu_tanh(x):
    return x * (0.5 + 0.5 * np.tanh((2 / np.pi) ** 0.5 * (x + 0.044715 * x**3)))""",
    "relu": """def relu(x):
    return np.maximum(x, 0.0)""",
}
