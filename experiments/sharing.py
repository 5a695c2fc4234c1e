"""How many nodes and edges circuits of different tasks share, and what they do with each residual channel.

python -m experiments.sharing --config=experiments/configs/sharing.py --output=experiments/results/sharing

--output gets pairs.jsonl (a line per pair of tasks), uses.jsonl (how many nodes and edges 1, 2, 3 ... tasks
use), channels.jsonl (a line per residual channel), table.md and the figure. Chance is exact: as many items in
every layer's site (or matrix), drawn from all that the model has.
"""

from experiments import command
from experiments.flag_types import path_flag
from experiments.studies.figure import require_figures
from experiments.studies.sharing import load_cells, write_sharing
from sparse_jax.files import require_writable, user_path
from sparse_jax.inputs import require_choice, require_sections
from sparse_jax.models.formats import load_model
from sparse_jax.tasks.built_in import TASKS

OUTPUT = path_flag("output", None, "where rows, table and figure go", required=True)


def main() -> None:
    """Checks the config, reads all circuits, and writes what they share."""
    config = require_sections(command.config().to_dict(), ("models", "circuits", "recipes", "tasks"))
    for name in config["tasks"]:
        require_choice("tasks", name, TASKS)
    require_figures()
    output = user_path(OUTPUT.value)
    require_writable(output / "pairs.jsonl")
    models = {side: load_model(path) for side, path in config["models"].items()}
    folder = user_path(config["circuits"], "circuits")
    print(write_sharing(load_cells(models, folder, config["recipes"], config["tasks"]), output))


if __name__ == "__main__":
    command.run(main)
