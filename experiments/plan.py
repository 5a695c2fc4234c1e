"""Estimates what a run will need on machines that you do not have: memory, FLOPs, traffic, time and money.

python -m experiments.plan --config=experiments/configs/pretrain.py:size=paper,kind=sparse --topology=v5e-64

The actual training and pruning steps are compiled on this machine for the topology (half a minute to two
minutes each). TPUs need the extra `plan`, GPUs `plan-gpu`. Times are roofline estimates.
"""

from absl import flags
from ml_collections import config_flags

from experiments import command
from experiments.flag_types import names_flag, path_flag
from sparse_jax.files import json_lines, require_writable, write_whole
from sparse_jax.inputs import from_mapping, require, require_choice
from sparse_jax.planning.devices import planned_devices
from sparse_jax.planning.plan import plan_pruning, plan_training
from sparse_jax.planning.report import format_record
from sparse_jax.planning.topologies import find_topology, known_topologies
from sparse_jax.pruning.config import PruneConfig
from sparse_jax.training.config import run_config

PROGRAMS = ["training", "pruning"]
TOPOLOGY = flags.DEFINE_string("topology", None, f"one of {', '.join(known_topologies())}", required=True)
WANTED = names_flag("programs", PROGRAMS, f"what to plan, of {', '.join(PROGRAMS)}")
PRUNE = config_flags.DEFINE_config_file(
    "prune",
    None,
    "the pruning config: experiments/configs/prune.py, with --prune.KEY=VALUE (default: its defaults)",
)
PRICE = flags.DEFINE_float("price", None, "US dollars an hour for a device, if not the list price")
OUTPUT = path_flag("output", None, "a file for the same as JSON lines")


def main() -> None:
    """Prints the plan of each program as soon as it is compiled."""
    config = run_config(command.config().to_dict())
    topology = find_topology(TOPOLOGY.value)
    for program in WANTED.value:
        require_choice("--programs", program, PROGRAMS)
    require(PRICE.value is None or PRICE.value >= 0, "--price", PRICE.value, "0 or more")
    prune = PruneConfig()
    if PRUNE.value is not None:
        require("pruning" in WANTED.value, "--programs", WANTED.value, "pruning as well, with --prune")
        prune = from_mapping(PruneConfig, PRUNE.value.to_dict(), "pruning")
    if OUTPUT.value is not None:
        require_writable(OUTPUT.value)
    devices = planned_devices(topology)
    records = []
    for program in WANTED.value:
        if program == "training":
            records.append(plan_training(config, topology, devices, PRICE.value))
        else:
            records.append(plan_pruning(config, prune, topology, devices, PRICE.value))
        print(format_record(records[-1]), flush=True)
    if OUTPUT.value is not None:
        write_whole(OUTPUT.value, json_lines(records))


if __name__ == "__main__":
    command.run(main)
