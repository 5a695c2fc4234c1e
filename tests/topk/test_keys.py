import jax.numpy as jnp
import numpy as np
import pytest

from sparse_jax.topk.keys import magnitude_keys

pytestmark = pytest.mark.accelerator


def test_keys_order_as_magnitudes_do_where_floats_may_be_flushed():
    ascending = np.float32([0.0, 1e-45, -1e-40, 1.2e-38, -1.0, 1.0000001, -3.4e38, np.inf, np.nan])
    keys = np.asarray(magnitude_keys(jnp.asarray(ascending)))
    assert (np.diff(keys) > 0).all() and keys[0] == 0
    assert keys[-1] < np.iinfo(np.int32).max


def test_sign_does_not_matter():
    x = jnp.float32([0.0, 1e-45, 2.5, jnp.inf, jnp.nan])
    assert (magnitude_keys(x) == magnitude_keys(-x)).all()


def test_the_largest_integer_is_no_key():
    every_bit = np.array([0x7FFFFFFF, -1], np.int32).view(np.float32)
    assert (np.asarray(magnitude_keys(jnp.asarray(every_bit))) == 0x7FFFFFFE).all()


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_half_precision_has_16_bit_keys(dtype):
    x = jnp.asarray([0.0, -0.5, 1.0, -2.0], dtype)
    assert magnitude_keys(x).dtype == jnp.int16
    assert (jnp.diff(magnitude_keys(x)) > 0).all()
