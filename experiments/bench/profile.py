"""Where a training step spends its time: a JSON line for each part of the code, the slowest first.

taskset -c 0 python -m experiments.bench.profile --size=M --variant=sparse

On one core, where the times of instructions add up to the step's; on more, only those of the thread that
starts each are seen. `ms` and `share` are of one step under the profiler, `runs` counts instructions;
`gflops` are those of the part's matrix products, `of_matmul` their share of a large product's speed,
`gb_per_s` the bytes that its instructions read and write (in caches or not).
"""

from collections import defaultdict
from pathlib import Path

from absl import flags

import sparse_jax
from experiments import command
from experiments.bench.instructions import ELSEWHERE, Cost, costs, profiled
from experiments.bench.timing import best, matmul_gflops, print_row
from experiments.bench.train_steps import SIZES, VARIANTS, Runner

SIZE = flags.DEFINE_enum("size", "M", list(SIZES), "the model and its batch")
VARIANT = flags.DEFINE_enum("variant", "sparse", list(VARIANTS), "what is sparse in it")
LEAST = flags.DEFINE_float("least", 0.01, "the smallest share of the step that gets a line", 0, 1)


def part_rows(runner: Runner, matmul: float) -> list[dict[str, object]]:
    """A row for each function of the package and for the whole step, the slowest first."""
    known = costs(runner.text, Path(sparse_jax.__file__).parent)
    seconds, runs = profiled(runner, runner.module)
    parts: dict[tuple[str, bool], list[str]] = defaultdict(list)
    for name in seconds:
        cost = known.get(name, Cost(0, 0, ELSEWHERE))
        parts[cost.source, cost.flop > 0].append(name)
    whole = sum(seconds.values())

    def row(source: str, is_product: bool, names: list[str]) -> dict[str, object]:
        took = sum(seconds[name] for name in names)
        flop, moved = (
            sum(getattr(known[name], key) * runs[name] for name in names if name in known)
            for key in ("flop", "bytes")
        )
        found = {"part": source, "products": is_product, "ms": 1e3 * took, "share": took / whole}
        found |= {"runs": sum(runs[name] for name in names), "gb_per_s": 1e-9 * moved / took}
        if is_product:
            found |= {"gflops": 1e-9 * flop / took, "of_matmul": 1e-9 * flop / took / matmul}
        return found

    rows = [row(source, is_product, names) for (source, is_product), names in parts.items()]
    products = [name for (_, is_product), names in parts.items() if is_product for name in names]
    rows += [row("all products", True, products), row("all else", False, list(set(seconds) - set(products)))]
    return sorted(rows, key=lambda found: -found["share"])


def main() -> None:
    """Prints the plain time of a step, then a line for each part."""
    runner = Runner(SIZES[SIZE.value], VARIANT.value)
    runner()
    plain, matmul = best(runner, 3).wall, matmul_gflops(dtype=SIZES[SIZE.value].compute_dtype)[0]
    about = {"size": SIZE.value, "variant": VARIANT.value}
    print_row({**about, "part": "step, not profiled", "ms": 1e3 * plain, "matmul_gflops": matmul})
    for found in part_rows(runner, matmul):
        if found["share"] >= LEAST.value:
            print_row({**about, **found})


if __name__ == "__main__":
    command.run(main)
