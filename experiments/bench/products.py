"""What products with a sparse matrix could buy on this machine, beside the dense product. A JSON line a case.

python -m experiments.bench.products

Rows [R, K] times a matrix [K, N] of which a 64th or a 256th is nonzero, as the same number in every column:
  dense   what training does
  ell     the nonzeros of each output one after another: one gather of whole channels for each
  bcsr    jax.experimental.sparse
  scipy   CSR on one core, written in C++, channels already turned into rows
and, for the weights' gradient at the nonzeros alone, `dense_gradient` (the whole product, of which the
nonzeros are read) and `ell_gradient`. Medians of several calls, in turns. About a minute on 2 CPU cores.
"""

import json

import jax
import jax.numpy as jnp
import numpy as np
import scipy.sparse
from absl import flags
from jax.experimental import sparse

from experiments import command
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
            print(json.dumps({**row, "foreign_load": float(f"{load:.2g}")}), flush=True)


def products(rows: int, inputs: int, outputs: int, each: int) -> dict:
    """Functions without arguments; `each` is the number of nonzeros of an output. Results are compared."""
    rng = np.random.default_rng(0)
    chosen = np.stack([rng.permutation(inputs)[:each] for _ in range(outputs)])
    values = rng.normal(size=(outputs, each)).astype(np.float32)
    matrix = np.zeros((inputs, outputs), np.float32)
    np.put_along_axis(matrix, chosen.T, values.T, axis=0)
    x, slope = (rng.normal(size=(rows, width)).astype(np.float32) for width in (inputs, outputs))
    turned = {"x": np.ascontiguousarray(x.T), "csr": scipy.sparse.csr_array(matrix.T)}
    given = {
        "dense": (jnp.matmul, x, matrix),
        "ell": (lambda *given: _ell(*given).T, x.T, chosen, values),
        "bcsr": (lambda m, x: (m @ x).T, sparse.BCSR.fromdense(matrix.T), x.T),
        "dense_gradient": (lambda x, s: (x.T @ s)[chosen, np.arange(outputs)[:, None]], x, slope),
        "ell_gradient": (_ell_gradient, x.T, chosen, slope.T),
    }
    calls = {name: _compiled(function, *arguments) for name, (function, *arguments) in given.items()}
    calls["scipy"] = lambda: turned["csr"] @ turned["x"]
    found = {name: call() for name, call in calls.items()}
    for name in ("ell", "bcsr"):
        np.testing.assert_allclose(found[name], found["dense"], atol=1e-3)
    np.testing.assert_allclose(found["scipy"].T, found["dense"], atol=1e-3)
    np.testing.assert_allclose(found["ell_gradient"], found["dense_gradient"], atol=1e-2)
    return calls


def _ell(x_KxR, chosen_NxE, values_NxE):
    def add(y_NxR, one):
        chosen_N, values_N = one
        return y_NxR + values_N[:, None] * x_KxR[chosen_N], None

    start = jnp.zeros((len(chosen_NxE), x_KxR.shape[1]), x_KxR.dtype)
    return jax.lax.scan(add, start, (chosen_NxE.T, values_NxE.T))[0]


def _ell_gradient(x_KxR, chosen_NxE, slope_NxR):
    def of_one(chosen_N):
        return jnp.sum(x_KxR[chosen_N] * slope_NxR, axis=1)

    return jax.lax.map(of_one, chosen_NxE.T).T


def _compiled(function, *arguments):
    on_device = [jax.tree.map(jnp.asarray, argument) for argument in arguments]
    run = jax.jit(function)
    return lambda: jax.block_until_ready(run(*on_device))


if __name__ == "__main__":
    command.run(main)
