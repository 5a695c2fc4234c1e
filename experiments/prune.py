"""Prunes a trained model to its circuits for some tasks.

python -m experiments.prune --config=experiments/configs/prune.py --model=runs/quickstart/sparse \
    --tasks=single_double_quote,bracket_counting --output=runs/circuits
"""

from collections.abc import Sequence

from absl import flags

from experiments import command
from experiments.flag_types import names_flag, path_flag
from experiments.studies.comparison import format_circuits
from sparse_jax.inputs import from_mapping, require
from sparse_jax.models.formats import load_model
from sparse_jax.pruning.config import PruneConfig
from sparse_jax.pruning.prune import prune_tasks
from sparse_jax.pruning.recipe import Recipe, SearchConfig
from sparse_jax.tasks.find import FORMS, find_task
from sparse_jax.tasks.task_data import task_data

MODEL = path_flag("model", None, "the model: a training run, or any other form", required=True)
NAMES = names_flag("tasks", None, f"the tasks to prune for, each {FORMS}", required=True)
LANES = flags.DEFINE_integer(
    "lanes", 1, "prunings of each task side by side; the smallest circuit counts", 1, 1024
)
SEARCH = flags.DEFINE_integer(
    "search",
    0,
    "rounds of a hyperparameter search, of --lanes prunings each; 0: lanes differ only in seed",
    0,
)
EDGES = flags.DEFINE_bool("edges", False, "gates on single edges as well, inside the circuit of nodes")
OUTPUT = path_flag(
    "output", None, "where the circuits go, <task>.json each; two of one name get a hash", required=True
)


def main() -> None:
    """Writes a circuit per task and prints their sizes."""
    prune = from_mapping(PruneConfig, command.config().to_dict(), "pruning")
    search = SearchConfig(LANES.value, SEARCH.value)
    recipe = Recipe(prune, search, edge_prune=prune if EDGES.value else None, edge_lanes=LANES.value)
    require(len(NAMES.value) > 0, "--tasks", NAMES.value, f"one or more, each {FORMS}")
    tasks = [find_task(name) for name in NAMES.value]
    model = load_model(MODEL.value)
    data = [task_data(task, model.require_tokenizer(), model.config.context, prune.counts) for task in tasks]
    found = prune_tasks(model, None, data, recipe, OUTPUT.value)
    names = _told_apart(NAMES.value, [task.name for task in tasks])
    circuits = {name: circuit for name, circuit in zip(names, found) if circuit is not None}
    print(format_circuits(names, circuits))


def _told_apart(given: Sequence[str], names: Sequence[str]) -> list[str]:
    """The tasks' names, or the user's specifications where two names are the same."""
    return [name if names.count(name) == 1 else spec for spec, name in zip(given, names)]


if __name__ == "__main__":
    command.run(main)
