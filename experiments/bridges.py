"""Bridges between a sparse and a dense model: training, every hybrid path, steering.

python -m experiments.bridges --config=experiments/configs/bridges.py

Training writes to the config's workdir, and resumes when it was stopped. --output gets rows.jsonl with a line
per location, path and steering strength, table.md, and the figures paths.png and steering.png.
"""

from experiments import command
from experiments.flag_types import path_flag
from experiments.studies.bridges import error_rows, path_rows, steering_rows
from experiments.studies.bridges_report import write_results
from experiments.studies.figure import require_figures
from experiments.studies.held_out import held_out_windows
from sparse_jax.bridges.config import BridgeRun
from sparse_jax.bridges.train import train_bridges
from sparse_jax.circuits.graph import load_circuit
from sparse_jax.data.corpus import prepare
from sparse_jax.files import require_writable, user_path
from sparse_jax.inputs import require_sections
from sparse_jax.models.formats import load_model
from sparse_jax.tasks.find import find_tasks
from sparse_jax.training.config import run_config

OUTPUT = path_flag("output", None, "where rows, table and figures go (default: report in the workdir)")


def main() -> None:
    """Checks the whole config, trains, then measures."""
    sections = (*BridgeRun.SECTIONS, "workdir", "models", "paths", "steering")
    config = require_sections(command.config().to_dict(), sections)
    run = run_config({name: config[name] for name in BridgeRun.SECTIONS}, BridgeRun)
    steering = config["steering"]
    tasks = find_tasks(steering["tasks"], "steering.tasks")
    folder = user_path(steering["circuits"], "steering.circuits")
    circuits = {task.name: load_circuit(folder / f"{task.name}.json") for task in tasks}
    require_figures()
    workdir = user_path(config["workdir"], "workdir")
    output = user_path(OUTPUT.value or workdir / "report")
    require_writable(output / "rows.jsonl")
    dense, start = (config["models"][side] for side in ("dense", "sparse"))
    pair = train_bridges(run, load_model(dense), workdir, load_model(start) if start else None)
    corpus = prepare(run.data, run.model.vocab_size)
    windows = held_out_windows(corpus, run.model.context, config["paths"]["windows"])
    rows = error_rows(pair, windows) + path_rows(pair, windows, config["paths"]["batch_size"])
    for task in tasks:
        rows += steering_rows(pair, task, circuits[task.name], steering)
    print(write_results(rows, output))


if __name__ == "__main__":
    command.run(main)
