"""Which gradient of AbsTopK trains better where a row has fewer nonzero entries than are kept.

python -m experiments.ties --config=experiments/configs/ties.py --output=experiments/results/ties

All models are trained in the config's workdir, and finished ones are kept. --output gets rows.jsonl with a
line per model and table.md, rewritten after each model.
"""

import dataclasses
import itertools

from experiments import command
from experiments.flag_types import path_flag
from experiments.studies.pair import validation_loss
from experiments.studies.ties import RULES, TiesRow, ties, write_ties
from sparse_jax.files import require_writable, user_path
from sparse_jax.inputs import require, require_choice, require_sections
from sparse_jax.training.config import run_config
from sparse_jax.training.loop import train
from sparse_jax.training.resume import check_workdir

OUTPUT = path_flag("output", None, "where rows and table go (default: report in the workdir)")


def main() -> None:
    """Checks the whole config, then trains one model after the other."""
    config = require_sections(command.config().to_dict(), ("workdir", "model", "rules", "seeds"))
    workdir, run = user_path(config["workdir"], "workdir"), run_config(config["model"])
    cells = list(itertools.product(config["seeds"], config["rules"]))
    require(bool(cells), "seeds, rules", cells, "one or more of each")
    runs = {}
    for seed, rule in cells:
        require_choice("rules", rule, RULES)
        training = dataclasses.replace(run.training, seed=seed)
        runs[seed, rule] = dataclasses.replace(run, training=training)
        check_workdir(workdir / f"{rule}_{seed}", runs[seed, rule])
    output = user_path(OUTPUT.value or workdir / "report")
    require_writable(output / "rows.jsonl")
    rows, table = [], ""
    for (seed, rule), own in runs.items():
        folder = workdir / f"{rule}_{seed}"
        with ties(rule):
            train(own, folder, f"train {rule}, seed {seed}")
        rows.append(TiesRow(rule, seed, own.training.steps, validation_loss(folder)))
        table = write_ties(rows, output)
    print(table)


if __name__ == "__main__":
    command.run(main)
