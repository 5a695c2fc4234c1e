"""The parts that prompts are made of: names, texts and lines, and the surroundings of each kind of prompt."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from random import Random
from typing import ClassVar, NamedTuple

from sparse_jax.data.programs import assignments
from sparse_jax.data.programs.expressions import digit
from sparse_jax.data.programs.holdout import can_open, split_of
from sparse_jax.data.programs.names import Scope
from sparse_jax.data.programs.strings import quote
from sparse_jax.data.programs.words import COMMON_NAMES
from sparse_jax.tasks.vocabularies import Words

# A production rule as in data/programs: gives the lines of a statement about some names.
Lines = Callable[[Random, Scope], list[str]]

# Lines about numbers, without quotes, lists or keywords that a task could ask about.
_PLAIN = (assignments.bind_number, assignments.compute, assignments.step, assignments.show_number)


class Place(NamedTuple):
    """Where a task's lines go: the text `before` them and the indentation `pad` of each of them."""

    before: str
    pad: str


class Setting(ABC):
    """Draws the parts of prompts from `rng`. All surroundings begin with a line that `can_open`."""

    words: ClassVar[Words]
    longest: ClassVar[int]  # characters of a prompt: pruning costs as much as the longest one
    numbers_most: ClassVar[int]  # in a list
    fields_most: ClassVar[int]  # of a class

    def __init__(self, rng: Random):
        self.rng = rng

    @classmethod
    def accepts(cls, prompt: str, split: str) -> bool:
        """Whether a prompt of this setting may be used in `split`, which depends on its first line."""
        first, line_end, _ = prompt.partition("\n")
        opens = bool(line_end) and can_open(first)
        return opens and len(prompt) <= cls.longest and split_of(prompt) == split

    @abstractmethod
    def place(self, names: Scope, *distractors: Lines) -> Place:
        """Anywhere. `distractors` look like what the task asks about; a setting may put them first."""

    @abstractmethod
    def function(self, names: Scope, *distractors: Lines) -> Place:
        """Inside a function."""

    def body(self, names: Scope, *distractors: Lines) -> Place:
        """In a function, where the programs have all kinds of statements; a setting may nest deeper."""
        return self.function(names, *distractors)

    @abstractmethod
    def branch(self, names: Scope, *distractors: Lines) -> Place:
        """Right after the head of an if inside a function."""

    @abstractmethod
    def above(self, *distractors: Lines) -> str:
        """The lines above a top-level definition, with an empty line in between."""

    @abstractmethod
    def between(self, names: Scope) -> list[str]:
        """Lines between the binding of a variable and its use that do not mention the variable."""

    def text_line(self) -> str:
        mark = quote(self.rng)
        return f"print({mark}{self.phrase()}{mark})"

    def noun(self) -> str:
        return self.rng.choice(self.words.nouns)

    def variable(self) -> str:
        """A name as in `data/programs/names.py`: often a common one, else a noun, sometimes a compound."""
        kind = self.rng.random()
        if kind < 0.85:
            return self.rng.choice(self.words.common if kind < 0.55 else self.words.nouns)
        return f"{self.rng.choice(self.words.adjectives)}_{self.noun()}"

    def distinct(self, count: int, *taken: str) -> list[str]:
        """`count` different variables that are not in `taken`."""
        names: list[str] = []
        while len(names) < count:
            if (name := self.variable()) not in (*names, *taken):
                names.append(name)
        return names

    def common(self, *taken: str) -> str:
        """A short name, not among `taken`; it adds little to the length of the program that has it."""
        return self.rng.choice([name for name in self.words.common if name not in taken])

    def answers(self, count: int) -> list[str]:
        """Different names to be predicted: in all settings the programs' common ones, each one token."""
        return self.rng.sample(COMMON_NAMES, count)

    def scope(self, *taken: str) -> Scope:
        number, other, text, item = self.distinct(4, *taken)
        return Scope(number, other, text, self.plural(item), item)

    def function_name(self) -> str:
        return f"{self.rng.choice(self.words.verbs)}_{self.noun()}"

    def class_name(self) -> str:
        noun = self.noun().capitalize()
        return noun if self.rng.random() < 0.6 else self.rng.choice(self.words.adjectives).capitalize() + noun

    def phrase(self) -> str:
        """One to three words of text."""
        words = [self.rng.choice(self.words.verbs), self.rng.choice(self.words.adjectives), self.noun()]
        return " ".join(words[-self.rng.choice((1, 1, 2, 2, 3)) :])

    def elements(self) -> str:
        """The elements of a list: numbers, or names."""
        if self.rng.random() < 0.3:
            return ", ".join(self.variable() for _ in range(self.rng.randrange(2, 6)))
        return ", ".join(digit(self.rng) for _ in range(self.rng.randrange(2, self.numbers_most + 1)))

    def plain_lines(self, names: Scope, least: int, most: int) -> list[str]:
        """`least` to `most` lines about numbers."""
        count = self.rng.randrange(least, most + 1)
        return [line for _ in range(count) for line in self.rng.choice(_PLAIN)(self.rng, names)]

    def around(self, names: Scope, distractors: tuple[Lines, ...]) -> list[str]:
        """Plain lines, with one of the distractors between them, or all of them in random order."""
        parts = [self.plain_lines(names, 1, 2), self.plain_lines(self.scope(*names), 0, 1)]
        chosen = self.rng.sample(distractors, self.rng.choice((1, 1, len(distractors))))
        parts += [distractor(self.rng, self.scope(*names)) for distractor in chosen]
        self.rng.shuffle(parts)
        return [line for part in parts for line in part]

    def plural(self, item: str) -> str:
        """A plural name for `item`."""
        if len(item) == 1 or item.endswith(("s", "x", "h", "y")):
            return self.rng.choice(("items", "values", "numbers"))
        return f"{item}s"

    def function_head(self, names: Scope, first: str = "") -> str:
        """The head of a function with the parameters `first` and then the names of the block."""
        return f"def {self.function_name()}({first}{names.number}, {names.items}, {names.other}):"


def text_of(lines: list[str]) -> str:
    """Every line with its end."""
    return "".join(f"{line}\n" for line in lines)
