"""The table of all tasks, by name (METHOD section 5)."""

from sparse_jax.inputs import require_choice
from sparse_jax.tasks import brackets, branches, definitions, files, loops, strings, variables
from sparse_jax.tasks.task import Generate, Task


def _task(family: str, about: str, generate: Generate) -> Task:
    return Task(generate.__name__, family, about, generate)


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
TASKS: dict[str, Task] = {task.name: task for task in _ALL}


def get_task(name: str) -> Task:
    """The task called `name`. Raises InputError with the nearest names if there is none."""
    require_choice("task", name, TASKS)
    return TASKS[name]
