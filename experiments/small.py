"""A weight-sparse and a dense model of equal validation loss, measured on all twenty tasks.

python -m experiments.small --config=experiments/configs/small.py --output=runs/small/published

Safe to repeat: stopped training resumes. `--output` gets sparse/ and dense/ (nonzero weights, means,
windows of the training text, config, tokenizer, metrics; every command's --model takes such a folder),
tasks.jsonl and table.txt.
"""

import itertools

from experiments import command
from experiments.flag_types import path_flag
from experiments.studies.comparison import SIDES
from experiments.studies.publish import publish
from sparse_jax.ablation.score import measure_tasks
from sparse_jax.files import require_writable, user_path
from sparse_jax.inputs import require_sections
from sparse_jax.models.means import publish_means, publish_text
from sparse_jax.tasks.built_in import TASKS
from sparse_jax.training.config import run_config
from sparse_jax.training.loop import train
from sparse_jax.training.resume import check_workdir

OUTPUT = path_flag("output", None, "where the finished pair goes", required=True)


def main() -> None:
    """Checks the whole config, trains both models, measures them, publishes."""
    config = require_sections(command.config().to_dict(), (*SIDES, "workdir", "test_pairs"))
    workdir = user_path(config["workdir"], "workdir")
    runs = {side: run_config(config[side]) for side in SIDES}
    for side in SIDES:
        check_workdir(workdir / side, runs[side])
    output = user_path(OUTPUT.value)
    require_writable(output / "table.txt")
    models = {side: train(runs[side], workdir / side, f"train {side}") for side in SIDES}
    rows = {split: {} for split in ("test", "shifted")}
    for split, side in itertools.product(rows, SIDES):
        model = models[side]
        wanted = (split, config["test_pairs"], 0, model.tokenizer, model.config.context)
        encoded = {name: task.encode(*wanted) for name, task in TASKS.items()}
        rows[split][side] = measure_tasks(model, encoded, split, label=f"{split} {side}")
    for side in SIDES:
        publish_means(models[side], output / side)
        publish_text(models[side], output / side)
    print(publish(models, rows, {side: workdir / side for side in SIDES}, output))


if __name__ == "__main__":
    command.run(main)
