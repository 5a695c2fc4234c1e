"""The circuits that a command is given, each with its task."""

from collections.abc import Callable, Sequence

from sparse_jax.circuits.graph import Circuit
from sparse_jax.faithfulness.measure import check_measurable
from sparse_jax.files import user_path
from sparse_jax.inputs import InputError, require
from sparse_jax.interactive import load_circuit
from sparse_jax.meaning.bits import check_binarizable
from sparse_jax.models.formats import load_model
from sparse_jax.models.model import Model
from sparse_jax.tasks.find import find_task
from sparse_jax.tasks.task import Task


def given_circuits(
    model: str,
    paths: Sequence[str] | None,
    tasks: Sequence[str],
    check: Callable[[Model, Circuit, Task], None],
) -> tuple[Model, list[Circuit], list[Task]]:
    """The model in `model`, the circuits in the files `paths`, and their tasks.

    tasks: one for each circuit, or none: then the ones that the files name. check: raises InputError for a
    circuit that the command cannot use, and is asked about each here, so that none is refused after hours of
    work on those before it.

    Raises InputError for no file, another number of tasks, a circuit of another model, an unknown task, and
    a circuit that `check` refuses.
    """
    paths = _files(paths)
    require(len(tasks) in (0, len(paths)), "--tasks", tasks, "one for each circuit, or none")
    loaded = load_model(model)
    circuits = [load_circuit(path, loaded) for path in paths]
    if tasks:
        found = [find_task(name) for name in tasks]
    else:
        found = [_own_task(path, circuit) for path, circuit in zip(paths, circuits)]
    for path, circuit, task in zip(paths, circuits, found):
        try:
            check(loaded, circuit, task)
        except InputError as error:
            raise InputError(f"{path}: {error}") from None
    return loaded, circuits, found


def check_explained(model: Model, circuit: Circuit, task: Task, reported: bool) -> None:
    """Raises InputError for a circuit that cannot be explained or, if it is `reported`, measured."""
    check_binarizable(model, circuit, task)
    if reported and circuit.nodes:
        check_measurable(model, circuit, task)


def _own_task(path: str, circuit: Circuit) -> Task:
    """The task that a circuit's file names."""
    try:
        return find_task(str(circuit.provenance.get("task")))
    except InputError as error:
        raise InputError(f"{path}: {error}, or any task by --tasks") from None


def names_of_results(paths: Sequence[str] | None) -> list[str]:
    """What results are called: the files' names without suffix.

    Raises InputError for no file, and if two names are the same.
    """
    names = [user_path(path).stem for path in _files(paths)]
    require(len(set(names)) == len(names), "--circuit", names, "files with different names")
    return names


def _files(paths: Sequence[str] | None) -> Sequence[str]:
    require(bool(paths), "--circuit", paths, "one or more files")
    return paths or ()
