"""How few nodes have to be removed to break a task, beside how few suffice for it (inverse pruning).

python -m experiments.removal --config=experiments/configs/removal.py --output=experiments/results/removal

--output gets rows.jsonl with a line per model, task and target, and table.md, rewritten after each task. Rows
that the config's workdir has are not measured again.
"""

from experiments import command
from experiments.flag_types import path_flag
from experiments.studies.pair import load_pair
from experiments.studies.removal import measured_removals, write_removals
from sparse_jax.files import require_writable, user_path
from sparse_jax.inputs import from_mapping, require_sections
from sparse_jax.pruning.config import PruneConfig
from sparse_jax.pruning.recipe import require_targets
from sparse_jax.tasks.find import find_tasks

OUTPUT = path_flag("output", None, "where rows and table go (default: report in the workdir)")


def main() -> None:
    """Checks the whole config, then measures one task after the other in each model."""
    sections = ("models", "kept", "tasks", "targets", "pruning", "workdir")
    config = require_sections(command.config().to_dict(), sections)
    prune = from_mapping(PruneConfig, config["pruning"], "pruning")
    require_targets("targets", config["targets"])
    tasks = find_tasks(config["tasks"])
    workdir, table = user_path(config["workdir"], "workdir"), ""
    output = user_path(OUTPUT.value or workdir / "report")
    require_writable(output / "rows.jsonl")
    models = load_pair(config["models"])
    kept = user_path(config["kept"], "kept")
    for rows in measured_removals(models, tasks, prune, config["targets"], kept, workdir):
        table = write_removals(rows, output)
    print(table)


if __name__ == "__main__":
    command.run(main)
