"""Models of several widths and densities: how well they predict text, and how small their circuits are.

python -m experiments.model_size --config=experiments/configs/model_size.py

All models are trained and pruned in the same way, in the config's workdir; existing results are kept.
--output gets rows.jsonl with a line per model, the table and the figure.
"""

from experiments import command
from experiments.flag_types import path_flag
from experiments.studies.figure import require_figures
from experiments.studies.model_size import model_row, write_rows
from experiments.studies.pair import validation_loss
from sparse_jax.data.corpus import prepare
from sparse_jax.files import require_writable, user_path
from sparse_jax.inputs import from_mapping, require_sections
from sparse_jax.pruning.config import PruneConfig
from sparse_jax.pruning.prune import prune_tasks
from sparse_jax.pruning.recipe import Recipe
from sparse_jax.tasks.find import find_tasks
from sparse_jax.tasks.task_data import task_data
from sparse_jax.training.config import run_config
from sparse_jax.training.loop import train
from sparse_jax.training.resume import check_workdir

OUTPUT = path_flag("output", None, "where the table and the figure go (default: report in the workdir)")


def main() -> None:
    """Checks the whole config, then trains and prunes one model after the other, and reports."""
    config = require_sections(
        command.config().to_dict(), ("models", "changed", "pruning", "tasks", "workdir")
    )
    workdir, rows = user_path(config["workdir"], "workdir"), []
    runs = {name: run_config(given) for name, given in config["models"].items()}
    prune = from_mapping(PruneConfig, config["pruning"], "pruning")
    tasks = find_tasks(config["tasks"])
    require_figures()
    for name, run in runs.items():
        check_workdir(workdir / name, run)
    output = user_path(OUTPUT.value or workdir / "report")
    require_writable(output / "rows.jsonl")
    for name, run in runs.items():
        corpus = prepare(run.data, run.model.vocab_size)
        data = [task_data(task, corpus.tokenizer, run.model.context, prune.counts) for task in tasks]
        model = train(run, workdir / name, f"train {name}")
        circuits_in = workdir / name / "circuits"
        found = prune_tasks(model, corpus, data, Recipe(prune), circuits_in, f"prune {name}")
        circuits = {one.name: circuit for one, circuit in zip(data, found) if circuit is not None}
        changed = config["changed"].get(name, "")
        rows.append(model_row(name, changed, model, validation_loss(workdir / name), circuits))
    print(write_rows(rows, prune.target_loss, output))


if __name__ == "__main__":
    command.run(main)
