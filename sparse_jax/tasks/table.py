"""The table of all tasks, by name (METHOD section 5)."""

from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import ClassVar

from sparse_jax.inputs import require_choice
from sparse_jax.tasks import brackets, branches, definitions, files, loops, strings, variables
from sparse_jax.tasks.controls import CONTROLS, ControlTask
from sparse_jax.tasks.setting import Setting
from sparse_jax.tasks.surroundings import SETTINGS
from sparse_jax.tasks.task import DrawnTask, Member, Task, cut

Generate = Callable[[Setting], tuple[str, str]]


@dataclass(frozen=True)
class BuiltInTask(DrawnTask):
    """A task of the table; beside the main splits it has `shifted`, of other names, lengths and depths.

    `generate` draws two complete programs that differ only in what decides; in each, the token to be
    predicted stands between « and ». A prompt's split is that of its first line (`data/programs/holdout.py`),
    so that no program to train on holds the first line of a test prompt.
    """

    generate: Generate

    splits: ClassVar[tuple[str, ...]] = tuple(SETTINGS)

    def draw(self, rng: Random, split: str) -> tuple[Member, Member]:
        one, other = self.generate(SETTINGS[split](rng))
        return cut(one), cut(other)

    def belongs(self, prompt: str, split: str) -> bool:
        return SETTINGS[split].accepts(prompt, split)


def _task(family: str, about: str, generate: Generate) -> BuiltInTask:
    return BuiltInTask(generate.__name__, family, about, generate)


_ALL = (
    _task("strings", "close a text with the quote that opened it", strings.single_double_quote),
    _task("strings", "a brace appears only in an f-string", strings.fstring_brace),
    _task("brackets", "close one bracket or two", brackets.bracket_counting),
    _task("brackets", "a colon in a dictionary, a comma in a list", brackets.bracket_brace),
    _task("variables", "a set is added to, a string grows", variables.set_or_string),
    _task("variables", "the same, always named current", variables.set_or_string_fixedvarname),
    _task("variables", "end a swap with its first name", variables.var_swap),
    _task("definitions", "a last parameter with or without default", definitions.final_kwarg),
    _task("definitions", "what follows a name after def or lambda", definitions.lambda_func),
    _task("definitions", "copy the name of a stored field", definitions.class_init),
    _task("branches", "the end of an if or of a ternary's condition", branches.if_ternary),
    _task("branches", "compare after if, bind at a line's start", branches.if_equals),
    _task("branches", "the end of a comparison: if or assignment", branches.var_if),
    _task("branches", "a colon after else, a condition after elif", branches.else_elif),
    _task("loops", "what follows a name after for or while", loops.for_while),
    _task("loops", "enumerate for two loop variables, range for one", loops.enumerate_range),
    _task("loops", "indentation after a for line or an assignment", loops.indent_for),
    _task("loops", "indentation after while True or return True", loops.while_return_true),
    _task("files", "the end of a call of open: with or assignment", files.with_as),
    _task("files", "read or write, by the file's name", files.with_open),
)
TASKS: dict[str, BuiltInTask] = {task.name: task for task in _ALL}


def get_task(name: str) -> Task:
    """The task called `name`, or for "name.control" a control of it.

    Raises InputError with the nearest names if there is no such task or control.
    """
    base, dot, control = name.partition(".")
    require_choice("task", base, TASKS)
    if not dot:
        return TASKS[base]
    require_choice(f"control of task {base!r}", control, CONTROLS)
    return ControlTask.of(TASKS[base], control)
