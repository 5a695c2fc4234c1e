"""Are circuits what their model uses? Mean-only against strict pruning, in the sparse and the dense model.

python -m experiments.faithfulness --config=experiments/configs/faithfulness.py

Every task is pruned in both models by both recipes, and every circuit gets a scorecard. It may be stopped at
any time; the same command continues, and measures again what has an earlier version of the scorecard.
--output gets rows.jsonl with a line per circuit, the table and two figures, rewritten after each circuit, and
the circuits themselves in circuits/.
"""

from experiments import command
from experiments.flag_types import path_flag
from experiments.studies.faithfulness import measured_rows
from experiments.studies.faithfulness_report import target_of, write_results
from experiments.studies.figure import require_figures
from experiments.studies.pair import load_pair
from sparse_jax.files import require_writable, user_path
from sparse_jax.inputs import from_mapping, require_sections
from sparse_jax.pruning.config import PruneConfig
from sparse_jax.tasks.find import find_tasks

OUTPUT = path_flag(
    "output", None, "where the table, the figures and the circuits go (default: report in the workdir)"
)


def main() -> None:
    """Checks the whole config, then prunes and measures one circuit after the other."""
    names = ("models", "recipes", "pairs", "tasks", "again", "workdir")
    config = require_sections(command.config().to_dict(), names)
    recipes = {
        name: from_mapping(PruneConfig, given, f"recipes.{name}") for name, given in config["recipes"].items()
    }
    target_of(recipes)  # refused now if they differ
    tasks = find_tasks(config["tasks"])
    require_figures()
    workdir, table = user_path(config["workdir"], "workdir"), ""
    output = user_path(OUTPUT.value or workdir / "report")
    require_writable(output / "rows.jsonl")
    models = load_pair(config["models"])
    how = workdir, config["pairs"], output / "circuits", config["again"]
    for rows in measured_rows(models, tasks, recipes, *how):
        table = write_results(rows, recipes, output)
    print(table)


if __name__ == "__main__":
    command.run(main)
