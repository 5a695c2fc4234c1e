"""Settings of prompts: plain ones in the main splits, unfamiliar ones in `shifted`."""

from sparse_jax.data.programs.expressions import comparison
from sparse_jax.data.programs.layout import indented
from sparse_jax.data.programs.loops import for_each
from sparse_jax.data.programs.names import Scope
from sparse_jax.tasks.setting import Lines, Place, Setting, text_of
from sparse_jax.tasks.vocabularies import FAMILIAR, UNFAMILIAR


class Main(Setting):
    """The words and idioms of the generated programs, with contexts short enough for fast pruning."""

    words = FAMILIAR
    longest = 130
    numbers_most = 5
    fields_most = 3

    def place(self, names: Scope, *distractors: Lines) -> Place:
        kind = self.rng.random()
        if kind < 0.4:
            return self.function(names)
        if kind < 0.7:
            return Place(text_of(self.plain_lines(names, 1, 5)), "")
        if kind < 0.85:
            return self.branch(names)
        return self.method(names)

    def method(self, names: Scope) -> Place:
        """Inside a method."""
        lines = [self.function_head(names, "self, "), *indented(self.plain_lines(names, 0, 2))]
        return Place(text_of([f"class {self.opening_class()}:", *indented(lines)]), " " * 8)

    def opening_class(self) -> str:
        """The name of a class in a prompt's first line."""
        return self.class_name()

    def function(self, names: Scope, *distractors: Lines) -> Place:
        lines = [self.function_head(names), *indented(self.plain_lines(names, 0, 4))]
        return Place(text_of(lines), " " * 4)

    def branch(self, names: Scope, *distractors: Lines) -> Place:
        before = self.function(names).before
        return Place(f"{before}    if {comparison(self.rng, names)}:\n", " " * 8)

    def between(self, names: Scope) -> list[str]:
        return [self.text_line()] if self.rng.random() < 0.25 else []

    def above(self, *distractors: Lines) -> str:
        return text_of([*self.plain_lines(self.scope(), 1, 4), ""])


class Shifted(Setting):
    """Other words, more lines, deeper nesting, and distractors.

    Everything is inside a class or a function whose name is made of other words, so no prompt occurs in the
    main splits. Unrelated lines use their own names, so nothing is bound twice.
    """

    words = UNFAMILIAR
    longest = 240  # under 128 tokens of a vocabulary of 1024
    numbers_most = 7
    fields_most = 6

    @classmethod
    def accepts(cls, prompt: str, split: str) -> bool:
        # a line held out for the test split, so that neither training programs nor training pairs contain it
        return split == "shifted" and super().accepts(prompt, "test")

    def place(self, names: Scope, *distractors: Lines) -> Place:
        lines = [self.rng.choice((f"if {comparison(self.rng, names)}:", f"while {names.other}:"))]
        lines += indented(self.around(names, distractors))
        return self._in_function(names, lines, 1)

    def function(self, names: Scope, *distractors: Lines) -> Place:
        return self._in_function(names, self.around(names, distractors), 0)

    def body(self, names: Scope, *distractors: Lines) -> Place:
        return self.place(names, *distractors)

    def branch(self, names: Scope, *distractors: Lines) -> Place:
        # no deeper than in the main splits: a deeper indentation might not be one token
        lines = [*self.around(names, distractors), f"if {comparison(self.rng, names)}:"]
        return Place(text_of([self.function_head(names), *indented(lines)]), " " * 8)

    def between(self, names: Scope) -> list[str]:
        lines = [self.text_line(), *self.plain_lines(self.scope(*names), 1, 2)]
        lines += for_each(self.rng, self.scope(*names)) if self.rng.random() < 0.5 else []
        return lines

    def above(self, *distractors: Lines) -> str:
        names = self.scope()
        lines = [self.function_head(names), *indented(self.plain_lines(names, 1, 2)), ""]
        for distractor in distractors:
            lines += [*distractor(self.rng, self.scope()), ""]
        return text_of(lines)

    def _in_function(self, names: Scope, body: list[str], depth: int) -> Place:
        """After `body`, which ends `depth` levels deep, in a function or more often in a method."""
        lines, levels = [self.function_head(names), *indented(body)], 1 + depth
        if self.rng.random() < 0.7:
            lines = [self.function_head(names, "self, "), *lines[1:]]
            lines, levels = [f"class {self.class_name()}:", *indented(lines)], levels + 1
        return Place(text_of(lines), " " * 4 * levels)


SETTINGS: dict[str, type[Setting]] = {"train": Main, "validation": Main, "test": Main, "shifted": Shifted}
