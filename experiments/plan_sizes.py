"""What the paper's models need on several topologies: one plan for every width and topology, as a table.

python -m experiments.plan_sizes --config=experiments/configs/pretrain.py:size=paper,kind=sparse \
    --config.model.remat --config.training.mesh_fsdp=8 --output=experiments/results/plan

Needs the extra `plan`; a few minutes per row on 2 CPU cores. Existing rows of rows.jsonl are kept, so the
same command resumes a stopped study; rows of another config are refused.
"""

from experiments import command
from experiments.flag_types import names_flag, path_flag
from experiments.studies.plan_table import config_digest, kept_rows, markdown, of_width
from sparse_jax.files import json_lines, require_writable, user_path, write_whole
from sparse_jax.inputs import require
from sparse_jax.planning.devices import planned_devices
from sparse_jax.planning.plan import plan_training, plan_update
from sparse_jax.planning.topologies import find_topology
from sparse_jax.training.config import run_config

# 7.4 M to 1.9 B parameters besides the bigram table
WIDTHS = ["256", "512", "1024", "2048", "4480"]
TOPOLOGIES = names_flag("topologies", ["v5e-64", "v6e-256", "v5p-128", "v5e-256"], "of `experiments.plan`")
SIZES = names_flag("widths", WIDTHS, "model.d_model of each model")
OUTPUT = path_flag("output", None, "the folder of rows.jsonl and table.md", required=True)


def main() -> None:
    """Adds the missing rows one by one, then writes the table."""
    base = run_config(command.config().to_dict())
    topologies = [find_topology(name, "--topologies") for name in TOPOLOGIES.value]
    for each in topologies:
        require(each.chip is not None, "--topologies", each.name, "TPUs or GPUs, whose speed is known")
    for width in SIZES.value:
        require(width.isdecimal() and int(width) > 0, "--widths", width, "whole numbers such as 256,1024")
    runs = [of_width(base, int(width)) for width in SIZES.value]
    rows = user_path(OUTPUT.value) / "rows.jsonl"
    require_writable(rows)
    records = kept_rows(rows, base)
    done = {(record["d_model"], record["topology"], record["program"]) for record in records}
    for topology in topologies:
        devices = planned_devices(topology)
        for run in runs:
            for plan in (plan_update, plan_training):
                if (run.model.d_model, topology.name, plan.__name__.removeprefix("plan_")) in done:
                    continue
                own = {"config": config_digest(base), "d_model": run.model.d_model}
                records.append({**own, **plan(run, topology, devices)})
                write_whole(rows, json_lines(records))
    write_whole(rows.with_name("table.md"), markdown(records))
    print(markdown(records))


if __name__ == "__main__":
    command.run(main)
