"""Circuit sizes against the target loss, for the sparse and the dense model of a pair.

python -m experiments.circuit_size --config=experiments/configs/circuit_size.py

While it runs, trials, circuits and a line of rows.jsonl per model, task, target loss and method are written
to the config's workdir; at the end, rows, summary.json, table.md and figures to --output. A stopped study
resumes; study.edge_targets and study.rankings may be added later.
"""

import shlex
import sys

from absl import flags

from experiments import command
from experiments.flag_types import path_flag
from experiments.studies.circuit_size.plan import keep_plan, read_plan
from experiments.studies.circuit_size.report import write_report
from experiments.studies.circuit_size.sizes import MODELS, SizeRows
from experiments.studies.circuit_size.study import describe_model, run_study
from experiments.studies.figure import require_figures
from experiments.studies.pair import load_pair
from experiments.studies.times import read_times, recorded
from sparse_jax.files import require_writable, user_path
from sparse_jax.inputs import require, require_sections
from sparse_jax.pruning.subject import prepare_subject
from sparse_jax.tasks.find import find_tasks
from sparse_jax.tasks.task_data import task_data

RESULTS = "experiments/results"
PLACES = {name: path_flag(name, f"{RESULTS}/small/{name}", f"the {name} model") for name in MODELS}
OUTPUT = path_flag("output", None, "where tables and figures go (default: report in the workdir)")
REPORT = flags.DEFINE_bool("report", False, "only report the rows that are there")


def main() -> None:
    """Checks everything, adds the missing rows, reports."""
    sections = ("study", "search", "pruning", "edge_pruning", "tasks", "workdir")
    config = require_sections(command.config().to_dict(), sections)
    plan, workdir = read_plan(config), user_path(config["workdir"], "workdir")
    tasks = find_tasks(config["tasks"])
    if len(plan.study.targets) > 1:
        require_figures()
    places = {name: user_path(place.value) for name, place in PLACES.items()}
    models = load_pair(places)
    weights = {name: model.fingerprint for name, model in models.items()}
    counts = plan.prune.counts
    data = {
        name: [task_data(task, model.require_tokenizer(), model.config.context, counts) for task in tasks]
        for name, model in models.items()
    }
    pairs = {name: {one.name: one.fingerprint for one in group} for name, group in data.items()}
    path, times = workdir / "rows.jsonl", workdir / "times.jsonl"
    require(path.exists() or not REPORT.value, "--report", REPORT.value, f"without it: there is no {path}")
    output = user_path(OUTPUT.value or workdir / "report")
    require_writable(output / "summary.json")
    keep_plan(plan, weights, pairs, workdir)
    if not REPORT.value:
        with recorded(times, shlex.join(["python", "-m", "experiments.circuit_size", *sys.argv[1:]])):
            subjects = {
                name: prepare_subject(model, plan.prune, workdir / name) for name, model in models.items()
            }
            run_study(subjects, data, plan, SizeRows(path))
    described = {name: describe_model(model, places[name]) for name, model in models.items()}
    about = {"models": described, "config": config, "times": read_times(times)}
    rows = SizeRows(path).rows  # another command may have added some meanwhile
    print(write_report(rows, about, plan.study.headline, output, plan.study.seed))


if __name__ == "__main__":
    command.run(main)
