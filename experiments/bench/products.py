"""What products with a sparse matrix could buy on this machine, beside the dense product. A JSON line a case.

python -m experiments.bench.products

Rows [R, K] times a matrix [K, N] of which a 64th or a 256th is nonzero, as the same number in every column:
  dense   what training does
  ell     the nonzeros of each output one after another: one gather of whole channels for each
  bcsr    jax.experimental.sparse, channels already turned into rows
  bcsr_of_rows   the same from rows [R, K], as a model has them: turned and turned back
  scipy   CSR on one core, written in C++, channels already turned into rows
and, for the weights' gradient at the nonzeros alone, `dense_gradient` (the whole product, of which the
nonzeros are read) and `ell_gradient`. Medians of several calls, in turns. About a minute on 2 CPU cores.
"""

import json

from absl import flags

from experiments import command
from experiments.bench.sparse_products import products
from experiments.bench.timing import interleaved

ROWS = flags.DEFINE_integer("rows", 4096, "rows of a product")
REPEATS = flags.DEFINE_integer("repeats", 7, "timed calls of each")
SHAPES = ((256, 1024), (512, 2048), (1024, 256), (2048, 512))


def main() -> None:
    """Prints a line for each shape and fraction."""
    for inputs, outputs in SHAPES:
        for fraction in (1 / 64, 1 / 256):
            each = max(1, round(inputs * fraction))
            seconds, load = interleaved(products(ROWS.value, inputs, outputs, each), REPEATS.value)
            row = {"inputs": inputs, "outputs": outputs, "fraction": each / inputs}
            row |= {f"{name}_ms": float(f"{1e3 * value:.4g}") for name, value in seconds.items()}
            row["foreign_load"] = None if load is None else float(f"{load:.2g}")
            print(json.dumps(row), flush=True)


if __name__ == "__main__":
    command.run(main)
