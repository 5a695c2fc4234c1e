"""Times the same training and pruning on more and more simulated devices and processes. One JSON line each.

python -m experiments.bench.scaling --devices=1,2,4,8 --process_counts=2,4

All devices share the cores of this machine, so ideally each line has the times of the first: `..._over_one`
is what splitting costs. A step of training has its batch split over the devices; 8 lanes of pruning are
split over the devices of one process. With several processes each has one device.
"""

from absl import flags

from experiments import command
from experiments.bench.scaling_run import measured
from experiments.bench.timing import print_row
from experiments.bench.train_steps import SIZES
from experiments.flag_types import names_flag
from sparse_jax.inputs import require

SIZE = flags.DEFINE_enum("size", "S", list(SIZES), "the model and its batch")
DEVICES = names_flag("devices", ["1", "2", "4", "8"], "numbers of devices of a process, first 1")
COUNTS = names_flag("process_counts", ["2", "4"], "numbers of processes")
REPEATS = flags.DEFINE_integer("repeats", 7, "timed calls of each")


def main() -> None:
    """Prints a line for each number of devices, then for each number of processes."""
    for field, numbers in (("--devices", DEVICES.value), ("--process_counts", COUNTS.value)):
        for n in numbers:
            require(n.isdecimal() and int(n) > 0, field, n, "whole numbers such as 1,2,4")
    require(DEVICES.value[:1] == ["1"], "--devices", DEVICES.value, "1 first, then others")
    batch = SIZES[SIZE.value].batch_size
    settings = [(int(n), 1) for n in DEVICES.value] + [(1, int(n)) for n in COUNTS.value]
    for devices, processes in settings:
        valid = f"divisors of the batch of {SIZE.value}, {batch}"
        require(batch % (devices * processes) == 0, "devices", devices * processes, valid)
    one = {}
    for devices, processes in settings:
        found = measured(SIZE.value, devices, processes, REPEATS.value)
        one = one or found
        row = {"size": SIZE.value, "devices": devices, "processes": processes, **found}
        row |= {f"{name}_over_one": found[name] / one[name] for name in found}
        print_row(row)


if __name__ == "__main__":
    command.run(main)
