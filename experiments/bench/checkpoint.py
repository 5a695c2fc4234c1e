"""The cost of saving: the mean time of a training step with and without it. One JSON line per variant.

python -m experiments.bench.checkpoint --sizes=S,M --every=0,100,20

ms: per step, including saves; over_none: ms divided by the time without saving. held_ms: how long a save
blocks the loop (the previous one has to be on disk first). written_ms: how long it takes until a checkpoint
is on disk when nothing else runs. The variants run alternately; numbers are medians over the rounds.
"""

import tempfile
from pathlib import Path

from absl import flags

from experiments import command
from experiments.bench.saving import measure
from experiments.bench.timing import print_row
from experiments.bench.train_steps import SIZES
from experiments.flag_types import names_flag, path_flag
from sparse_jax.buckets import BucketPath
from sparse_jax.files import user_path
from sparse_jax.inputs import require, require_choice

NAMES = names_flag("sizes", ["S", "M"], f"among {', '.join(SIZES)}")
EVERY = names_flag("every", ["0", "100", "20"], "steps from one save to the next; 0: none")
STEPS = flags.DEFINE_integer("steps", 100, "steps of a turn")
TURNS = flags.DEFINE_integer("turns", 3, "turns of each variant")
DIRECTORY = path_flag("directory", None, "where checkpoints are written (default: /tmp)")


def main() -> None:
    """Prints a line for each size and interval."""
    for name in NAMES.value:
        require_choice("--sizes", name, SIZES)
    for n in EVERY.value:
        require(n.isdecimal(), "--every", n, "whole numbers such as 0,100")
    every = [int(n) for n in EVERY.value]
    require(0 in every and all(n <= STEPS.value for n in every), "--every", every, "0 and at most --steps")
    on_disk = DIRECTORY.value is None or not isinstance(user_path(DIRECTORY.value), BucketPath)
    require(on_disk, "--directory", DIRECTORY.value, "a directory on this machine")
    for name in NAMES.value:
        with tempfile.TemporaryDirectory(dir=DIRECTORY.value) as folder:
            for row in measure(SIZES[name], every, STEPS.value, TURNS.value, Path(folder)):
                print_row({"size": name, **row})


if __name__ == "__main__":
    command.run(main)
