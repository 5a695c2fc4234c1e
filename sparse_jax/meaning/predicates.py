"""Short statements about a token in its text, such as "inside a string", which a node may stand for.

Each is true or false at every token of a text, and looks at that token and those before it alone.
"""

import ast
import functools
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import numpy as np

from sparse_jax.inputs import InputError, nearest, require

KEYWORDS = (
    *("for", "while", "if", "elif", "else", "in", "lambda"),
    *("def", "class", "return", "with", "import", "print"),
)
_CLOSING = {")": "(", "]": "[", "}": "{"}
_QUOTES = "'\""
# What names of predicates about single tokens begin with.
TOKEN, PREVIOUS = "token is ", "previous token is "


class Place(NamedTuple):
    """A token, what stands before it, and the state of the text at its end.

    string: the quote that opened the string it ends in, or "". brackets: those that are open, outermost
    first. indentation: spaces at the beginning of its line. words: the keywords of the line so far, outside
    of strings. seen: whether the token occurred before. line_begins: whether nothing but spaces stands before
    it on its line.
    """

    token: str
    previous: str
    position: int
    string: str
    brackets: str
    indentation: int
    words: frozenset[str]
    seen: bool
    line_begins: bool


def places_of(tokens: Sequence[str]) -> list[Place]:
    """What stands at each position of a text, given as the texts of its tokens.

    >>> places = places_of(["print", "('", "a", "'", ")"])
    >>> [(place.string, place.brackets) for place in places]
    [('', ''), ("'", '('), ("'", '('), ('', '('), ('', '')]
    """
    state, seen, found, previous = _State(), set(), [], ""
    for position, token in enumerate(tokens):
        begins = not state.line.strip()
        for character in token:
            state.read(character)
        found.append(
            Place(
                token,
                previous,
                position,
                state.string,
                "".join(state.brackets),
                state.indentation,
                frozenset(state.keywords),
                token in seen,
                begins,
            )
        )
        seen.add(token)
        previous = token
    return found


class _State:
    """What is known of a text, character by character."""

    def __init__(self) -> None:
        self.string, self.escaped, self.line, self.word, self.indentation = "", False, "", "", 0
        self.brackets: list[str] = []
        self.words: set[str] = set()

    @property
    def keywords(self) -> set[str]:
        """Of the line so far; the last word counts as if it ended here."""
        return self.words | ({self.word} & set(KEYWORDS))

    def read(self, character: str) -> None:
        if character == "\n":
            self.line, self.word, self.words, self.indentation = "", "", set(), 0
            self.string, self.escaped = "", False
            return
        if not self.string:
            self._outside(character)
        elif self.escaped:
            self.escaped = False
        elif character == "\\":
            self.escaped = True
        elif character == self.string:
            self.string = ""
        self.line += character
        if not self.line.strip():
            self.indentation = len(self.line)

    def _outside(self, character: str) -> None:
        if character.isalnum() or character == "_":
            self.word += character
        else:
            self.words, self.word = self.keywords, ""
        if character in _QUOTES:
            self.string = character
        elif character in "([{":
            self.brackets.append(character)
        elif character in _CLOSING and self.brackets and self.brackets[-1] == _CLOSING[character]:
            self.brackets.pop()


Predicate = Callable[[Place], bool]


def _depth(least: int) -> Predicate:
    return lambda place: len(place.brackets) >= least


def _inside(bracket: str) -> Predicate:
    return lambda place: place.brackets[-1:] == bracket


def _below(position: int) -> Predicate:
    return lambda place: place.position < position


def _indented(least: int) -> Predicate:
    return lambda place: place.indentation >= least


def _after(word: str) -> Predicate:
    return lambda place: word in place.words


PREDICATES: dict[str, Predicate] = {
    "inside a string": lambda place: place.string != "",
    "inside a '...' string": lambda place: place.string == "'",
    'inside a "..." string': lambda place: place.string == '"',
    **{f"bracket depth at least {n}": _depth(n) for n in (1, 2, 3)},
    **{f"inside {name}": _inside(name[0]) for name in ("()", "[]", "{}")},
    **{f"position below {n}": _below(n) for n in (1, 2, 4, 8, 16, 32, 64)},
    **{f"indentation at least {n}": _indented(n) for n in (4, 8, 12)},
    **{f"after {word} on its line": _after(word) for word in KEYWORDS},
    "begins a line": lambda place: place.line_begins,
    "ends a line": lambda place: "\n" in place.token,
    "seen before": lambda place: place.seen,
    "is a word": lambda place: place.token.strip().isalpha(),
    "is a number": lambda place: place.token.strip().isdigit(),
    "is punctuation": lambda place: bool(place.token.strip()) and not any(map(str.isalnum, place.token)),
    "begins with a space": lambda place: place.token.startswith(" "),
}


def find_predicate(name: str) -> Predicate:
    """The predicate of this name: one of PREDICATES, "token is 'x'" or "previous token is 'x'".

    Raises InputError with the nearest valid name.

    >>> find_predicate("token is ' in'")(places_of(["x", " in"])[1])
    True
    """
    require(isinstance(name, str), "predicate", name, f"a name such as \"{TOKEN}' in'\"")
    if name in PREDICATES:
        return PREDICATES[name]
    for start, field in ((TOKEN, "token"), (PREVIOUS, "previous")):
        if name.startswith(start):
            return functools.partial(_is, field, _literal(name, name.removeprefix(start)))
    forms = f"{TOKEN}'x', {PREVIOUS}'x'"
    raise InputError(f"predicate: {name!r} is unknown; {nearest(name, PREDICATES)}; or {forms}")


def _is(field: str, text: str, place: Place) -> bool:
    return getattr(place, field) == text


def _literal(name: str, text: str) -> str:
    try:
        found = ast.literal_eval(text)
    except (ValueError, SyntaxError):
        found = None
    if not isinstance(found, str):
        raise InputError(f"predicate: {name!r}; valid: a token in quotes, as in {TOKEN}' in'")
    return found


def truth(names: Iterable[str], texts: Sequence[Sequence[str]]) -> np.ndarray:
    """Where each predicate is true: bool [predicates, N], for all N tokens of one text after the other."""
    predicates = [find_predicate(name) for name in names]
    places = [place for tokens in texts for place in places_of(tokens)]
    return np.array([[predicate(place) for place in places] for predicate in predicates], bool)


def token_predicates(tokens: Iterable[str]) -> list[str]:
    """The names of the predicates about these tokens."""
    return [f"{start}{token!r}" for token in tokens for start in (TOKEN, PREVIOUS)]
