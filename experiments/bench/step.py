"""Times a training step: sparse against dense, and the parts of the difference. One JSON line per variant.

python -m experiments.bench.step --sizes=S,M,L

All variants of a size run alternately in one process; numbers are medians without the first calls. The shares
of the projection and of AbsTopK are differences between variants. `foreign_load` is the number of CPUs that
other processes kept busy (measure again if it is not near 0). XL is for a GPU.
"""

import json

import jax
from absl import flags

from experiments import command
from experiments.bench.timing import interleaved, matmul_gflops
from experiments.bench.train_steps import SIZES, VARIANTS, Runner
from sparse_jax.inputs import require_choice

NAMES = flags.DEFINE_list("sizes", ["S", "M", "L"], f"among {', '.join(SIZES)}")
REPEATS = flags.DEFINE_integer("repeats", 9, "timed steps of each variant")


def main() -> None:
    """Prints a line for each size and variant."""
    for name in NAMES.value:
        require_choice("--sizes", name, SIZES)
    for name in NAMES.value:
        size = SIZES[name]
        runners = {variant: Runner(size, variant) for variant in VARIANTS}
        speed = matmul_gflops(dtype=size.compute_dtype)[0]
        seconds, load = interleaved(runners, REPEATS.value)
        speed = max(speed, matmul_gflops(dtype=size.compute_dtype)[0])
        for variant, runner in runners.items():
            row = {"size": name, "variant": variant, "ms": 1e3 * seconds[variant]}
            row["over_dense"] = seconds[variant] / seconds["dense"]
            row["useful_gflops"] = 1e-9 * size.useful_flop / seconds[variant]
            row |= {"matmul_gflops": speed, "of_matmul": row["useful_gflops"] / speed}
            row["compile_s"] = runner.compile_seconds
            row["peak_over_dense"] = runner.peak_bytes / runners["dense"].peak_bytes
            if variant in ("sparse", "annealing"):
                for share, without in (("projection", "activations_only"), ("abs_top_k", "weights_only")):
                    row[f"{share}_share"] = 1 - seconds[without] / seconds[variant]
            row["foreign_load"] = load
            shown = {k: float(f"{v:.4g}") if isinstance(v, float) else v for k, v in row.items()}
            print(json.dumps({**shown, "device": jax.devices()[0].device_kind}), flush=True)


if __name__ == "__main__":
    command.run(main)
