"""The speed of matrix products by the type of their factors and of their result. One JSON line each.

python -m experiments.bench.precision

On a CPU, XLA converts bfloat16 factors to float32 before a product whose result is bfloat16 too. Only if the
result is float32 does it hand bfloat16 to its library, which pays where the CPU multiplies it ("features":
avx512_bf16, amx_bf16), and costs elsewhere.
"""

from functools import partial

import jax
import jax.numpy as jnp
from absl import flags

from experiments import command
from experiments.bench.timing import interleaved, print_row

REPEATS = flags.DEFINE_integer("repeats", 9, "timed products of each")
# rows, inputs, outputs: a square, and the two matrices of an MLP 256 wide
SHAPES = ((2048, 2048, 2048), (4096, 256, 1024), (4096, 1024, 256))
TYPES = (("float32", "float32"), ("bfloat16", "bfloat16"), ("bfloat16", "float32"))


def product(factors: str, result: str, shape: tuple[int, int, int]):
    """A compiled product of random matrices: a call runs it and waits for it."""
    rows, inputs, outputs = shape
    x = jax.random.normal(jax.random.key(0), (rows, inputs), factors)
    matrix = jax.random.normal(jax.random.key(1), (inputs, outputs), factors)
    run = jax.jit(partial(jnp.matmul, preferred_element_type=result))
    return lambda: jax.block_until_ready(run(x, matrix))


def main() -> None:
    """Prints a line for each shape, in GFLOP/s."""
    for shape in SHAPES:
        calls = {f"{factors}_to_{result}": product(factors, result, shape) for factors, result in TYPES}
        seconds, load = interleaved(calls, REPEATS.value)
        flop = 2e-9 * shape[0] * shape[1] * shape[2]
        row = dict(zip(("rows", "inputs", "outputs"), shape))
        row |= {f"{name}_gflops": flop / value for name, value in seconds.items()}
        print_row({**row, "foreign_load": load})


if __name__ == "__main__":
    command.run(main)
