"""Times products with a sparse matrix on this machine against the dense product. One JSON line per case.

python -m experiments.bench.products

Rows [R, K] times a matrix [K, N] with 1/64 or 1/256 nonzero entries, equally many in every column:
  dense   what training does
  ell     the nonzeros of each output in turn: one gather of whole channels for each
  bcsr    jax.experimental.sparse, on already transposed rows [K, R]
  bcsr_of_rows   the same from rows [R, K], as in a model: transposed, and transposed back
  scipy   CSR in C++ on one core, on already transposed rows [K, R]
and, for the weights' gradient at the nonzeros alone, `dense_gradient` (the whole product, from which the
nonzeros are read) and `ell_gradient`. Medians of several alternating calls. About a minute on 2 CPU cores.
"""

from absl import flags

from experiments import command
from experiments.bench.sparse_products import products
from experiments.bench.timing import interleaved, print_row

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
            row |= {f"{name}_ms": 1e3 * value for name, value in seconds.items()}
            print_row({**row, "foreign_load": load})


if __name__ == "__main__":
    command.run(main)
