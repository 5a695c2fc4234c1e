"""Times a training step: sparse against dense, and the parts of the difference. One JSON line per variant.

python -m experiments.bench.step --sizes=S,M,L --torch

All variants of a size run alternately in one process; numbers are medians without the first calls. The shares
of the projection and of AbsTopK are differences between variants. `foreign_load` is the number of CPUs that
other processes kept busy (measure again if it is not near 0). XL is for a GPU.

--torch adds a plain dense GPT-2 in PyTorch on the CPU, which needs pip install -e '.[torch]'.
"""

import jax
from absl import flags

from experiments import command
from experiments.bench.timing import print_row
from experiments.bench.torch_gpt2 import training_step
from experiments.bench.train_steps import SIZES, step_rows
from experiments.flag_types import names_flag
from sparse_jax.inputs import require, require_choice

NAMES = names_flag("sizes", ["S", "M", "L"], f"among {', '.join(SIZES)}")
REPEATS = flags.DEFINE_integer("repeats", 9, "timed steps of each variant")
TORCH = flags.DEFINE_bool("torch", False, "also the step of a dense GPT-2 in PyTorch, on a CPU")


def main() -> None:
    """Prints a line for each size and variant."""
    for name in NAMES.value:
        require_choice("--sizes", name, SIZES)
    require(not TORCH.value or jax.default_backend() == "cpu", "--torch", True, "on a CPU only")
    for name in NAMES.value:
        peers = {"torch": training_step(SIZES[name])} if TORCH.value else {}
        for row in step_rows(name, SIZES[name], REPEATS.value, peers):
            print_row(row)


if __name__ == "__main__":
    command.run(main)
