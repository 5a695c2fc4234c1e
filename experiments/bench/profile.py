"""Where a training step spends its time: a JSON line for each part of the code, the slowest first.

taskset -c 0 python -m experiments.bench.profile --size=M --variant=sparse

For CPUs. On one core the times of instructions add up to the step's; on more, only those of the thread
that starts each are seen. `ms` and `share` are of one step under the profiler, `runs` counts instructions;
`gflops` are those of the part's matrix products, `of_matmul` their share of a large product's speed,
`gb_per_s` the bytes that its instructions read and write (in caches or not).
"""

import jax
from absl import flags

from experiments import command
from experiments.bench.instructions import part_rows
from experiments.bench.timing import best, matmul_gflops, print_row
from experiments.bench.train_steps import SIZES, VARIANTS, Runner
from sparse_jax.inputs import require

SIZE = flags.DEFINE_enum("size", "M", list(SIZES), "the model and its batch")
VARIANT = flags.DEFINE_enum("variant", "sparse", list(VARIANTS), "what is sparse in it")
LEAST = flags.DEFINE_float("least", 0.01, "the smallest share of the step that gets a line", 0, 1)


def main() -> None:
    """Prints the plain time of a step, then a line for each part."""
    require(jax.default_backend() == "cpu", "JAX_PLATFORMS", jax.default_backend(), "cpu")
    runner = Runner(SIZES[SIZE.value], VARIANT.value)
    runner()
    plain, matmul = best(runner, 3).wall, matmul_gflops(dtype=SIZES[SIZE.value].compute_dtype)[0]
    about = {"size": SIZE.value, "variant": VARIANT.value}
    print_row({**about, "part": "step, not profiled", "ms": 1e3 * plain, "matmul_gflops": matmul})
    for found in part_rows(runner, runner.text, matmul):
        if found["share"] >= LEAST.value:
            print_row({**about, **found})


if __name__ == "__main__":
    command.run(main)
