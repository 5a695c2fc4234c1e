"""Kinds of shift, each alone: other words, deeper nesting, or distractors. `shifted` has them all at once.

Gates may be trained on a kind (`pruning.shifts`), so each has three splits: `words` is for judging, while
`words_train` and `words_validation` are for finding circuits. The hash of a first line decides between them.
"""

from sparse_jax.data.programs.expressions import comparison
from sparse_jax.data.programs.layout import indented
from sparse_jax.data.programs.names import Scope
from sparse_jax.tasks.setting import Lines, Place, text_of
from sparse_jax.tasks.surroundings import Main
from sparse_jax.tasks.task import part_of, shift_split
from sparse_jax.tasks.vocabularies import UNFAMILIAR


class KindOfShift(Main):
    """The main setting but for one thing.

    No prompt of another setting has the same first line: a function that opens one has four parameters, a
    class is named by two nouns, and a plain line is of other words.
    """

    @classmethod
    def accepts(cls, prompt: str, split: str) -> bool:
        return super().accepts(prompt, part_of(split))

    def function_head(self, names: Scope, first: str = "") -> str:
        (fourth,) = self.distinct(1, *names)
        return super().function_head(names, first).removesuffix("):") + f", {fourth}):"

    def opening_class(self) -> str:
        return self.noun().capitalize() + self.noun().capitalize()


class OtherWords(KindOfShift):
    """Words that the programs do not use, in the main surroundings, which are never plain lines alone.

    Those might consist of the answers' names, which are the same in all settings, and be a main prompt.
    """

    words = UNFAMILIAR
    longest = 160

    def place(self, names: Scope, *distractors: Lines) -> Place:
        return self.rng.choice((self.function, self.function, self.branch, self.method))(names)


class Nesting(KindOfShift):
    """The main words in deeper and longer surroundings: a branch in a method; no distractors."""

    longest = 240

    def place(self, names: Scope, *distractors: Lines) -> Place:
        head = self.rng.choice((f"if {comparison(self.rng, names)}:", f"while {names.other}:"))
        inside = [head, *indented(self.plain_lines(names, 1, 2))]
        return self._in_method(names, [*self.plain_lines(names, 0, 2), *inside], 3)

    def function(self, names: Scope, *distractors: Lines) -> Place:
        return self._in_method(names, self.plain_lines(names, 3, 5), 2)

    def body(self, names: Scope, *distractors: Lines) -> Place:
        return self.place(names)

    def branch(self, names: Scope, *distractors: Lines) -> Place:
        # longer and no deeper: a deeper indentation might not be one token
        lines = [*self.plain_lines(names, 1, 3), f"if {comparison(self.rng, names)}:"]
        head = self.function_head(names)
        return Place(self.above() + text_of([head, *indented(lines)]), " " * 8)

    def between(self, names: Scope) -> list[str]:
        return [self.text_line(), *self.plain_lines(self.scope(*names), 0, 1)]

    def above(self, *distractors: Lines) -> str:
        names = self.scope()
        return self._in_method(names, self.plain_lines(names, 1, 3), 2).before + "\n"

    def _in_method(self, names: Scope, body: list[str], depth: int) -> Place:
        """After `body` in a method; the place is `depth` levels deep."""
        lines = [self.function_head(names, "self, "), *indented(body)]
        return Place(text_of([f"class {self.opening_class()}:", *indented(lines)]), " " * 4 * depth)


class Distractors(KindOfShift):
    """The main words in a function as flat as the main ones, after lines like those asked about."""

    longest = 240

    def place(self, names: Scope, *distractors: Lines) -> Place:
        return self.function(names, *distractors)

    def function(self, names: Scope, *distractors: Lines) -> Place:
        lines = [self.function_head(names), *indented(self.around(names, distractors))]
        return Place(text_of(lines), " " * 4)

    def branch(self, names: Scope, *distractors: Lines) -> Place:
        before = self.function(names, *distractors).before
        return Place(f"{before}    if {comparison(self.rng, names)}:\n", " " * 8)

    def above(self, *distractors: Lines) -> str:
        names = self.scope()
        lines = [self.function_head(names), *indented(self.plain_lines(names, 1, 2)), ""]
        for distractor in self.rng.sample(distractors, self.rng.choice((1, 1, len(distractors)))):
            lines += [*distractor(self.rng, self.scope()), ""]
        return text_of(lines)


_PARTS = ("test", "train", "validation")
SHIFTS: dict[str, type[KindOfShift]] = {
    "words": OtherWords,
    "nesting": Nesting,
    "distractors": Distractors,
}
SHIFT_SETTINGS = {shift_split(kind, part): SHIFTS[kind] for kind in SHIFTS for part in _PARTS}
