"""Loss against nonzero weights: L0 regularization by hard-concrete gates, and the largest weights kept.

python -m experiments.l0 --config=experiments/configs/l0.py --output=experiments/results/l0

All models are trained in the config's workdir, and finished ones are kept. --output gets rows.jsonl with a
line per model, table.md and the figure, rewritten after each model.
"""

from experiments import command
from experiments.flag_types import path_flag
from experiments.studies.figure import require_figures
from experiments.studies.l0 import l0_row, write_l0
from experiments.studies.pair import validation_loss
from sparse_jax.files import require_writable, user_path
from sparse_jax.inputs import require_sections
from sparse_jax.training.config import run_config
from sparse_jax.training.loop import train
from sparse_jax.training.resume import check_workdir

OUTPUT = path_flag("output", None, "where rows, table and figure go (default: report in the workdir)")


def main() -> None:
    """Checks the whole config, then trains one model after the other."""
    config = require_sections(command.config().to_dict(), ("models", "workdir"))
    workdir, rows, table = user_path(config["workdir"], "workdir"), [], ""
    runs = {name: run_config(given) for name, given in config["models"].items()}
    require_figures()
    for name, run in runs.items():
        check_workdir(workdir / name, run)
    output = user_path(OUTPUT.value or workdir / "report")
    require_writable(output / "rows.jsonl")
    for name, run in runs.items():
        model = train(run, workdir / name, f"train {name}")
        rows.append(l0_row(name, run, model, validation_loss(workdir / name)))
        table = write_l0(rows, output)
    print(table)


if __name__ == "__main__":
    command.run(main)
