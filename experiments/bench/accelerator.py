"""Measures what only an accelerator can tell, some minutes at a time. The same command continues.

python -m experiments.bench.accelerator --minutes=9 --out=runs/accelerator --part=kernel,steps

--out gets a line of rows.jsonl for each thing measured, at once, and a table at the end; what it has of this
machine and this code is not measured again. The parts, by worth:
  kernel  AbsTopK's kernel beside its references, bit for bit, for all widths and both number types
  steps   a training step of S, M, L and XL, dense, sparse and annealing: time, share of the product peak, of
          AbsTopK and of the projection, memory
  lanes   prunings side by side, 1 to 256, beside one alone
  pair    a sparse model of width 512 and its dense partner, trained and pruned for all tasks
  tests   the tests that are marked `accelerator`
`launch/accelerator.sh` brings what a machine without a network lacks. --size=tiny checks that all of it
works, in a minute or two of one CPU core.

Exit status 75: something is left, start it again; 1: all is measured, and something failed (its rows have
an "error"; without them it is measured again).
"""

import sys

from absl import flags

from experiments import command
from experiments.bench.accelerator_parts import EXTENTS, PARTS, all_cases
from experiments.bench.case_table import format_rows, machine
from experiments.bench.cases import run_cases
from experiments.flag_types import names_flag, path_flag
from sparse_jax.buckets import BucketPath
from sparse_jax.files import require_writable, user_path, write_whole
from sparse_jax.inputs import require, require_choice
from sparse_jax.runtime.preemption import Preempted

MINUTES = flags.DEFINE_float("minutes", 9.0, "how long it may take; a minute more for what cannot be stopped")
OUT = path_flag("out", None, "the folder of rows, models and circuits", required=True)
NAMES = names_flag("part", list(PARTS), f"one or more of {', '.join(PARTS)}")
SIZE = flags.DEFINE_enum("size", "full", list(EXTENTS), "tiny: only to see that it works")


def main() -> None:
    """Measures what is missing, and prints the table of all that is there."""
    require(0 < MINUTES.value <= 1440, "--minutes", MINUTES.value, "more than 0, at most 1440")
    require(len(NAMES.value) > 0, "--part", NAMES.value, f"one or more of {', '.join(PARTS)}")
    for name in NAMES.value:
        require_choice("--part", name, PARTS)
    folder = user_path(OUT.value)
    require(not isinstance(folder, BucketPath), "--out", OUT.value, "a folder on this machine")
    for name in ("rows.jsonl", "table.md"):
        require_writable(folder / name)
    cases, about = all_cases(NAMES.value, folder, SIZE.value), machine(SIZE.value)
    found = run_cases(cases, folder / "rows.jsonl", MINUTES.value, about)
    table = format_rows(found.rows)
    write_whole(folder / "table.md", table)
    print(table)
    for case in found.failed:
        print(f"failed: {case}", file=sys.stderr)
    if found.left:
        first, *more = found.left
        raise Preempted(f"left: {first} and {len(more)} more cases; the same command goes on with them")
    sys.exit(1 if found.failed else 0)


if __name__ == "__main__":
    command.run(main)
