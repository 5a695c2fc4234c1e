"""Times a training step: sparse against dense, and the parts of the difference. One JSON line per variant.

python -m experiments.bench.step --sizes=S,M,L

All variants of a size run alternately in one process; numbers are medians without the first calls. The shares
of the projection and of AbsTopK are differences between variants. `foreign_load` is the number of CPUs that
other processes kept busy (measure again if it is not near 0). XL is for a GPU.
"""

from absl import flags

from experiments import command
from experiments.bench.timing import print_row
from experiments.bench.train_steps import SIZES, step_rows
from experiments.flag_types import names_flag
from sparse_jax.inputs import require_choice

NAMES = names_flag("sizes", ["S", "M", "L"], f"among {', '.join(SIZES)}")
REPEATS = flags.DEFINE_integer("repeats", 9, "timed steps of each variant")


def main() -> None:
    """Prints a line for each size and variant."""
    for name in NAMES.value:
        require_choice("--sizes", name, SIZES)
    for name in NAMES.value:
        for row in step_rows(name, SIZES[name], REPEATS.value):
            print_row(row)


if __name__ == "__main__":
    command.run(main)
