"""Rows times a matrix, with gradients that a CPU computes as fast as the product itself."""

from functools import partial

import jax
import jax.numpy as jnp
from jax import lax


def rows_times_matrix(x, matrix_KxN, dimension_numbers=None, precision=None, preferred_element_type=None):
    """x [..., K] -> [..., N], all rows as one matrix; the signature is that of `lax.dot_general`.

    The matrix's gradient is a sum over rows. Over two axes at once, batch and tokens, XLA on a CPU would
    compute it three times slower than the product.
    """
    x_RxK = x.reshape(-1, x.shape[-1])
    y_RxN = _product(x_RxK, matrix_KxN, precision, preferred_element_type)
    return y_RxN.reshape(*x.shape[:-1], -1)


def _plain(x_RxK, matrix_KxN, precision, dtype):
    return jnp.matmul(x_RxK, matrix_KxN, precision=precision, preferred_element_type=dtype)


_product = jax.custom_vjp(_plain, nondiff_argnums=(2, 3))


def _forward(x_RxK, matrix_KxN, precision, dtype):
    return _plain(x_RxK, matrix_KxN, precision, dtype), (x_RxK, matrix_KxN)


# traced once for all matrices of a shape, since every platform's branch is
@partial(jax.jit, static_argnums=(0, 1), inline=True)
def _backward(precision, dtype, kept, gradient_RxN):
    x_RxK, matrix_KxN = kept
    times = partial(_plain, precision=precision, dtype=dtype)

    def by_rows(x_RxK, gradient_RxN):
        return times(x_RxK.T, gradient_RxN)

    def transposed_first(x_RxK, gradient_RxN):
        # XLA's fast product wants rows in memory order. A copy of the narrower factor is cheap.
        if x_RxK.shape[1] < gradient_RxN.shape[1]:
            return times(_transposed(x_RxK), gradient_RxN)
        return lax.optimization_barrier(times(_transposed(gradient_RxN), x_RxK)).T

    change_KxN = lax.platform_dependent(x_RxK, gradient_RxN, cpu=transposed_first, default=by_rows)
    return times(gradient_RxN, matrix_KxN.T).astype(x_RxK.dtype), change_KxN.astype(matrix_KxN.dtype)


_product.defvjp(_forward, _backward)


def _transposed(array):
    """Its transposition, written to memory, by an operation that does nothing else."""
    return lax.optimization_barrier(lax.optimization_barrier(array).T)
