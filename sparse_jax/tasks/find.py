"""Finds a task by its specification; every command uses this."""

import os
from collections.abc import Iterable, Sequence

from sparse_jax.files import user_path
from sparse_jax.inputs import InputError, require, require_once
from sparse_jax.tasks.built_in import get_task
from sparse_jax.tasks.controls import CONTROLS, ControlTask
from sparse_jax.tasks.own import load_function, pairs_task, read_task
from sparse_jax.tasks.task import Task

FORMS = "a name, NAME.CONTROL, a .jsonl file or FILE.py:FUNCTION"


# A task, or what names one: a specification in words, a path, or pairs.
Spec = str | os.PathLike[str] | Task | Sequence[object]


def as_task(spec: Spec) -> Task:
    """A task itself, that of `find_task`, or one of the given pairs.

    Raises InputError as those do, and for anything else.
    """
    if isinstance(spec, Task):
        return spec
    if isinstance(spec, (str, os.PathLike)):
        return find_task(os.fspath(spec))
    require(isinstance(spec, Iterable), "task", spec, f"{FORMS}, or pairs")
    return pairs_task(spec)


def find_tasks(specs: Sequence[str], field: str = "tasks") -> list[Task]:
    """The tasks that `specs` name; each has a name of its own, by which a study keeps what it finds.

    Raises InputError as `find_task` does, and naming `field` for a task that is given twice and for two tasks
    of one name.
    """
    require_once(field, specs)
    found: dict[str, tuple[str, Task]] = {}
    for spec in specs:
        task = find_task(spec)
        if task.name in found:
            both = f"{found[task.name][0]!r} and {spec!r}"
            raise InputError(f"{field}: {both} are both named {task.name!r}; valid: tasks of different names")
        found[task.name] = spec, task
    return [task for _, task in found.values()]


def find_task(spec: str) -> Task:
    """The task of the table, the JSON-lines file or the Python function that `spec` names.

    With `.nonsense`, `.hashed`, `.constant` or `.shuffled` appended, the control of that task. Raises
    InputError with the nearest valid names, or naming file and line.
    """
    rest, _, control = spec.rpartition(".")
    if rest and control in CONTROLS:
        return ControlTask.of(find_task(rest), control)
    if spec.endswith(".jsonl"):
        return read_task(spec)
    path, _, function = spec.rpartition(":")
    if path.endswith(".py"):
        return load_function(path, function)
    if spec.startswith("~") or "/" in spec or spec.endswith((".py", ".json")):
        user_path(spec, "task")  # names a scheme that is not supported
        raise InputError(f"task: {spec!r} is not a task; valid: {FORMS}")
    return get_task(spec)
