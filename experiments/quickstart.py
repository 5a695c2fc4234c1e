"""From Python source to circuits: trains a sparse and a dense model, prunes both, and compares them.

python -m experiments.quickstart --config=experiments/configs/quickstart.py

Safe to repeat: existing results are kept. Everything is written to the config's workdir:
sparse/ and dense/ (checkpoints, metrics, circuits as JSON), table.jsonl and report.html.
"""

import dataclasses
from collections.abc import Mapping
from pathlib import Path

from experiments import command
from experiments.report import write
from experiments.studies.comparison import SIDES, compare, format_table
from experiments.studies.pair import EQUAL, METRICS, unequal, validation_loss
from sparse_jax.data.corpus import prepare
from sparse_jax.files import user_path
from sparse_jax.inputs import from_mapping, require_sections
from sparse_jax.pruning.config import PruneConfig
from sparse_jax.pruning.prune import prune_tasks
from sparse_jax.pruning.recipe import Recipe
from sparse_jax.tasks.find import find_tasks
from sparse_jax.tasks.task_data import task_data
from sparse_jax.training.config import RunConfig, run_config
from sparse_jax.training.loop import train
from sparse_jax.training.resume import check_workdir


def main() -> None:
    """Checks the whole config, then trains, prunes, and reports."""
    config = require_sections(command.config().to_dict(), (*SIDES, "pruning", "tasks", "workdir"))
    workdir = user_path(config["workdir"], "workdir")
    runs = {side: run_config(config[side]) for side in SIDES}
    prune = from_mapping(PruneConfig, config["pruning"], "pruning")
    tasks = find_tasks(config["tasks"])
    for side in SIDES:
        check_workdir(workdir / side, _run(runs, side, workdir))
    corpora = {side: prepare(runs[side].data, runs[side].model.vocab_size) for side in SIDES}
    counts = prune.counts
    data = {
        side: [task_data(task, corpora[side].tokenizer, runs[side].model.context, counts) for task in tasks]
        for side in SIDES
    }

    models = {}
    for side in SIDES:
        models[side] = train(_run(runs, side, workdir), workdir / side, f"train {side}")
    circuits = {}
    for side, model in models.items():
        place = workdir / side / "circuits"
        found = prune_tasks(model, corpora[side], data[side], Recipe(prune), place, f"prune {side}")
        circuits[side] = {one.name: c for one, c in zip(data[side], found) if c is not None}
    comparison = compare([task.name for task in tasks], circuits["sparse"], circuits["dense"])
    print(format_table(comparison))
    if said := unequal({side: validation_loss(workdir / side) for side in SIDES}):
        print(f"{said}: more than {EQUAL:g} nats apart, so the sizes above are not quite comparable")
    print(write(workdir, models, circuits, comparison, prune))


def _run(runs: Mapping[str, RunConfig], side: str, workdir: Path) -> RunConfig:
    """The run of a side. The dense model is trained until it predicts as well as a sparse one that is there.

    Another `until_loss` of the config is kept.
    """
    training, sparse = runs[side].training, workdir / "sparse"
    if side == "dense" and training.until_loss is None and (sparse / METRICS).exists():
        training = dataclasses.replace(training, until_loss=validation_loss(sparse))
    return dataclasses.replace(runs[side], training=training)


if __name__ == "__main__":
    command.run(main)
