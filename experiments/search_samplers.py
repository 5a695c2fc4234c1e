"""Hyperparameter searches that choose the next prunings in different ways, compared on equal prunings.

python -m experiments.search_samplers --config=experiments/configs/search_samplers.py \
    --output=experiments/results/search_samplers

--output gets rows.jsonl with a line per pruning, best.jsonl with the best one of each search, table.md and
the figure, rewritten after each round. Prunings are kept in the config's workdir, and found again there.
"""

from experiments import command
from experiments.flag_types import path_flag
from experiments.studies.figure import require_figures
from experiments.studies.search_samplers import SAMPLERS, measured_searches
from experiments.studies.search_samplers_report import write_searches
from sparse_jax.files import require_writable, user_path
from sparse_jax.inputs import from_mapping, require_choice, require_sections
from sparse_jax.models.formats import load_model
from sparse_jax.pruning.config import PruneConfig
from sparse_jax.pruning.proposals import require_optuna
from sparse_jax.pruning.recipe import Recipe, SearchConfig
from sparse_jax.pruning.subject import prepare_subject
from sparse_jax.tasks.find import find_tasks
from sparse_jax.tasks.task_data import task_data

OUTPUT = path_flag("output", None, "where rows, table and figure go (default: report in the workdir)")


def main() -> None:
    """Checks the whole config, then makes one round after the other."""
    sections = ("model", "tasks", "samplers", "search", "pruning", "workdir")
    config = require_sections(command.config().to_dict(), sections)
    for name in config["samplers"]:
        require_choice("samplers", name, tuple(SAMPLERS))
    prune = from_mapping(PruneConfig, config["pruning"], "pruning")
    recipe = Recipe(prune, from_mapping(SearchConfig, config["search"], "search"))
    tasks = find_tasks(config["tasks"])
    require_figures()
    require_optuna()
    workdir, table = user_path(config["workdir"], "workdir"), ""
    output = user_path(OUTPUT.value or workdir / "report")
    require_writable(output / "rows.jsonl")
    model = load_model(config["model"])
    data = [task_data(task, model.require_tokenizer(), model.config.context, prune.counts) for task in tasks]
    subject = prepare_subject(model, prune, workdir)
    for rows, best in measured_searches(subject, data, recipe, config["samplers"], workdir):
        table = write_searches(rows, best, output)
    print(table)


if __name__ == "__main__":
    command.run(main)
