"""Circuits found with step gates and with hard-concrete gates, by the same recipe and effort.

python -m experiments.gates --config=experiments/configs/gates.py --output=experiments/results/gates

--output gets rows.jsonl with a line per circuit, table.md and the figure, rewritten after each circuit.
Circuits are kept in the config's workdir, and found again there.
"""

from experiments import command
from experiments.flag_types import path_flag
from experiments.studies.figure import require_figures
from experiments.studies.gates import measured_gates, write_gates
from experiments.studies.pair import load_pair
from sparse_jax.files import require_writable, user_path
from sparse_jax.inputs import from_mapping, require_choice, require_sections
from sparse_jax.pruning.config import GATES, PruneConfig
from sparse_jax.tasks.find import find_tasks

OUTPUT = path_flag("output", None, "where rows, table and figure go (default: report in the workdir)")


def main() -> None:
    """Checks the whole config, then finds one circuit after the other."""
    sections = ("models", "published", "tasks", "gates", "k_coefs", "pruning", "workdir")
    config = require_sections(command.config().to_dict(), sections)
    for gate in config["gates"]:
        require_choice("gates", gate, GATES)
    recipes = [
        from_mapping(PruneConfig, {**config["pruning"], "gate": gate, "k_coef": k_coef}, "pruning")
        for k_coef in config["k_coefs"]
        for gate in config["gates"]
    ]
    tasks = find_tasks(config["tasks"])
    require_figures()
    workdir, table = user_path(config["workdir"], "workdir"), ""
    output = user_path(OUTPUT.value or workdir / "report")
    require_writable(output / "rows.jsonl")
    models = load_pair(config["models"])
    published = user_path(config["published"], "published")
    for rows in measured_gates(models, tasks, recipes, workdir, published):
        table = write_gates(rows, output)
    print(table)


if __name__ == "__main__":
    command.run(main)
