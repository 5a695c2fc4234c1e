"""Rows times a matrix: gradients against NumPy in float64, and how each platform computes them."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sparse_jax.model.products import rows_times_matrix


def weighed(x, matrix, weights):
    """A number whose gradient with respect to the product, in float32, is `weights`."""
    return jnp.sum(weights * rows_times_matrix(x, matrix, preferred_element_type=jnp.float32))


# narrower to the left, to the right, and neither: the transposed factor differs
@pytest.mark.parametrize("width, outputs", [(4, 12), (12, 4), (8, 8)])
@pytest.mark.parametrize("dtype, tolerance", [("float32", 1e-6), ("bfloat16", 2**-8)])
def test_gradients_are_sums_over_all_rows(width, outputs, dtype, tolerance):
    keys = jax.random.split(jax.random.key(0), 3)
    shapes = (2, 5, width), (width, outputs), (2, 5, outputs)
    x, matrix, weights = (jax.random.normal(*given).astype(dtype) for given in zip(keys, shapes))
    found = jax.jit(jax.grad(weighed, (0, 1)))(x, matrix, weights)
    assert [one.dtype for one in found] == [dtype, dtype]
    x, matrix, weights = (np.asarray(array, np.float64) for array in (x, matrix, weights))
    expected = weights @ matrix.T, np.einsum("btk,btn->kn", x, weights)
    for one, reference in zip(found, expected):
        np.testing.assert_allclose(np.asarray(one, np.float64), reference, rtol=tolerance, atol=4 * tolerance)


@pytest.mark.parametrize("width, outputs", [(64, 256), (256, 64)])
def test_a_cpu_sums_over_rows_that_lie_in_memory_order(width, outputs):
    shapes = (512, width), (width, outputs), (512, outputs)
    given = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes]
    text = jax.jit(jax.grad(weighed, (0, 1))).lower(*given).compile().as_text()
    contracted = re.findall(r" dot\(.*lhs_contracting_dims=\{(\d)\}", text)
    assert contracted and set(contracted) == {"1"}


def test_an_accelerator_transposes_nothing_ahead():
    given = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in ((512, 64), (64, 256), (512, 256))]
    traced = jax.jit(jax.grad(weighed, (0, 1))).trace(*given)
    assert "optimization_barrier" in traced.lower(lowering_platforms=("cpu",)).as_text()
    assert "optimization_barrier" not in traced.lower(lowering_platforms=("tpu",)).as_text()
