"""Products with a sparse matrix in several formats, and gradients at its nonzeros alone."""

import jax
import jax.numpy as jnp
import numpy as np
import scipy.sparse
from jax.experimental import sparse


def products(rows: int, inputs: int, outputs: int, each: int) -> dict:
    """Functions to time, with checked results; `each` is the number of nonzeros per output."""
    rng = np.random.default_rng(0)
    chosen = np.stack([rng.permutation(inputs)[:each] for _ in range(outputs)])
    values = rng.normal(size=(outputs, each)).astype(np.float32)
    matrix = np.zeros((inputs, outputs), np.float32)
    np.put_along_axis(matrix, chosen.T, values.T, axis=0)
    x, gradient = (rng.normal(size=(rows, width)).astype(np.float32) for width in (inputs, outputs))
    turned = {"x": np.ascontiguousarray(x.T), "csr": scipy.sparse.csr_array(matrix.T)}
    given = {
        "dense": (jnp.matmul, x, matrix),
        "ell": (lambda *given: _ell(*given).T, x.T, chosen, values),
        "bcsr": (lambda m, x: (m @ x).T, sparse.BCSR.fromdense(matrix.T), x.T),
        "bcsr_of_rows": (lambda m, x: (m @ x.T).T, sparse.BCSR.fromdense(matrix.T), x),
        "dense_gradient": (lambda x, s: (x.T @ s)[chosen, np.arange(outputs)[:, None]], x, gradient),
        "ell_gradient": (_ell_gradient, x.T, chosen, gradient.T),
    }
    calls = {name: _compiled(function, *arguments) for name, (function, *arguments) in given.items()}
    calls["scipy"] = lambda: turned["csr"] @ turned["x"]
    found = {name: call() for name, call in calls.items()}
    for name in ("ell", "bcsr", "bcsr_of_rows"):
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
