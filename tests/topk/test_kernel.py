"""The kernel, in Pallas' interpreter, beside the search in plain JAX. For accelerators it is only lowered."""

import json
import subprocess
import sys
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sparse_jax.model.config import ModelConfig
from sparse_jax.model.forward import initialize
from sparse_jax.topk import rows
from sparse_jax.topk.kernel import block_rows, keep_largest, takes
from sparse_jax.training.loss import next_token_loss
from sparse_jax.trees import named_leaves
from tests.topk.adversarial import array

pytestmark = pytest.mark.accelerator

lowers_for_cuda = pytest.mark.skipif(
    jax.__version_info__ >= (0, 11), reason="jax 0.11 lowers Triton kernels only where there is a GPU"
)


def assert_same(x, k):
    stays, is_whole = jax.jit(lambda x: keep_largest(x, k, "interpret"))(x)
    expected, expected_whole = rows._keep_by_digits(x, k)
    np.testing.assert_array_equal(np.float32(stays), np.float32(expected))
    np.testing.assert_array_equal(is_whole, expected_whole)
    assert stays.dtype == x.dtype


@settings(max_examples=15, deadline=None)
@given(array((4, 9)), st.integers(1, 8))
def test_awkward_rows(x, k):
    assert_same(jnp.asarray(x), k)


@settings(max_examples=8, deadline=None)
@given(st.integers(1, 40), st.integers(2, 130), st.sampled_from(["float32", "bfloat16"]), st.data())
def test_every_shape(count, width, dtype, data):
    """Numbers of rows that fill no block, and blocks of several rows."""
    x = jax.random.normal(jax.random.key(count), (count, width)).astype(dtype).at[0, :].set(0)
    assert_same(x, data.draw(st.integers(1, width - 1)))


def test_lanes_are_rows():
    x = jax.random.normal(jax.random.key(0), (3, 5, 2, 24))
    lanes = jax.jit(jax.vmap(jax.vmap(lambda x: keep_largest(x, 6, "interpret"))))
    stays, is_whole = lanes(x)
    np.testing.assert_array_equal(stays, rows.abs_top_k(x, 6))
    assert is_whole.shape == (3, 5, 2) and not is_whole.any()


@pytest.mark.slow
def test_slopes_of_a_model_go_through_it(monkeypatch):
    """In the scan over layers, under checkpointing, vmap and grad, as in training and pruning."""
    config = ModelConfig(12, context=6, n_layers=2, d_model=16, d_head=4, unroll=False, remat=True)
    params = initialize(config, jax.random.key(0))
    tokens = jax.random.randint(jax.random.key(1), (3, 2, 7), 1, 12)

    def gradients():
        one = jax.grad(lambda params, tokens: next_token_loss(config, params, tokens))
        return named_leaves(jax.jit(jax.vmap(one, (None, 0)))(params, tokens))

    def by_kernel(x, k):
        asked.append(k)
        return keep_largest(x, k, "interpret")

    expected, asked = gradients(), []
    monkeypatch.setattr(rows, "_keep_in_lanes", by_kernel)
    jax.clear_caches()  # rows are traced once for a shape
    found = gradients()
    jax.clear_caches()
    assert asked
    for name, gradient in expected.items():
        np.testing.assert_allclose(found[name], gradient, atol=1e-6, err_msg=name)


PARTITIONED = """
import json, re, sys
import jax, jax.numpy as jnp
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from sparse_jax.topk.kernel import keep_largest
from sparse_jax.topk.rows import abs_top_k
jax.config.update("jax_platforms", "cpu")
jax.config.update("jax_num_cpu_devices", 8)
mesh = jax.make_mesh((4, 2), ("data", "fsdp"), axis_types=(AxisType.Auto,) * 2)
place = NamedSharding(mesh, PartitionSpec(("data", "fsdp")))
kernel = jax.vmap(lambda x: keep_largest(x, 32, "interpret")[0])
x = jax.device_put(jax.random.normal(jax.random.key(1), (16, 6, 128)), place)
run = jax.jit(kernel, in_shardings=place, out_shardings=place).lower(x).compile()
moved = re.findall(r"all-[a-z]+|collective-[a-z]+|reduce-scatter", run.as_text())
print(json.dumps([moved, bool((run(x) == abs_top_k(x, 32)).all())]))
"""


def test_rows_on_several_devices_stay_there():
    done = subprocess.run([sys.executable, "-c", PARTITIONED], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == [[], True]


@pytest.mark.parametrize(
    ("platform", "call", "width", "dtype"),
    [
        ("tpu", "tpu_custom_call", 256, "float32"),
        ("tpu", "tpu_custom_call", 256, "bfloat16"),
        ("tpu", "tpu_custom_call", 1280, "float32"),
        pytest.param("cuda", "triton", 256, "float32", marks=lowers_for_cuda),
        pytest.param("cuda", "triton", 256, "bfloat16", marks=lowers_for_cuda),
    ],
)
def test_lowers_for_accelerators(platform, call, width, dtype):
    x = jax.ShapeDtypeStruct((300, width), dtype)
    traced = jax.jit(lambda x: keep_largest(x, 64, platform)).trace(x)
    assert call in traced.lower(lowering_platforms=(platform,)).as_text()


@pytest.mark.parametrize("rows", [1, 2, 40, 62, 300, 4096])
def test_no_block_of_a_gpu_ends_behind_the_last_row(rows):
    for width in (16, 128, 1024, 8192):
        block = block_rows(rows, width, "cuda")
        assert rows % block == 0 and block & (block - 1) == 0 and block * width <= 8192
    assert block_rows(4096, 128, "cuda") == 64 and block_rows(4096, 16, "cuda") == 256
    # a TPU's registers hold 8 rows
    assert [block_rows(rows, width, "tpu") for width in (128, 1152, 5120)] == [256, 224, 48]


@lowers_for_cuda
def test_shapes_that_it_does_not_take_go_the_plain_way():
    assert takes(1024, jnp.bfloat16, "cuda") and takes(8192, jnp.float32, "cuda")
    for width, dtype in ((1000, jnp.float32), (16384, jnp.float32), (1024, jnp.float16)):
        assert not takes(width, dtype, "cuda")
        x = jax.ShapeDtypeStruct((8, width), dtype)
        lowered = jax.jit(lambda x: rows.abs_top_k(x, 10)).trace(x).lower(lowering_platforms=("cuda",))
        assert "triton" not in lowered.as_text()
    x = jax.ShapeDtypeStruct((8, 1024), jnp.float32)
    lowered = jax.jit(lambda x: rows.abs_top_k(x, 10)).trace(x).lower(lowering_platforms=("cuda",))
    assert "triton" in lowered.as_text()


def test_several_tpus_go_the_plain_way(monkeypatch):
    monkeypatch.setattr(jax, "default_backend", lambda: "tpu")
    assert takes(256, jnp.float32, "tpu") == (jax.device_count() == 1)
    monkeypatch.setattr(jax, "device_count", lambda: 2)
    assert not takes(256, jnp.float32, "tpu")


@pytest.mark.parametrize(("capability", "can"), [("7.5", False), ("8.0", True), ("12.0", True)])
def test_gpus_without_triton_go_the_plain_way(monkeypatch, capability, can):
    """A T4 has 7.5. One old GPU of several is enough."""
    gpus = [SimpleNamespace(compute_capability=each) for each in ("9.0", capability)]
    monkeypatch.setattr(jax, "local_devices", lambda backend: gpus if backend == "cuda" else [])
    assert takes(256, jnp.float32, "cuda") == can
    assert takes(256, jnp.float32, "interpret")
