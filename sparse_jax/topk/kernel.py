"""AbsTopK on a GPU or TPU: a kernel that reads every row once, searches on the chip, and writes it once."""

import functools
import math

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental import pallas as pl
from jax.experimental.custom_partitioning import custom_partitioning
from jax.experimental.pallas import triton
from jax.sharding import NamedSharding, PartitionSpec

# entries per block: fits several times into a TPU's vector memory, and once into a GPU's registers
BLOCK_ENTRIES = {"tpu": 2**18, "cuda": 2**13, "interpret": 2**10}
# the least compute capability of a GPU for which XLA compiles Triton kernels
TRITON_CAPABILITY = (8, 0)
# the shape of a TPU's registers: a block has at least this many rows, and a multiple of this width
TPU_ROWS, TPU_LANES = 8, 128


def takes(width: int, dtype: jnp.dtype, backend: str) -> bool:
    """Whether rows of `width` entries can go through the kernel of a backend ("tpu", "cuda", "interpret").

    A TPU's compiler does not call Python partitioners, so rows sharded over several TPUs cannot. Neither can
    those of GPUs older than NVIDIA's Ampere (a T4, a V100).
    """
    if dtype not in (jnp.float32, jnp.bfloat16):
        return False
    if backend == "tpu":
        is_lone = jax.default_backend() == "tpu" and jax.device_count() == 1
        return is_lone and width % TPU_LANES == 0 and TPU_ROWS * width <= BLOCK_ENTRIES[backend]
    if width > BLOCK_ENTRIES[backend]:
        return False
    return backend != "cuda" or (width & (width - 1) == 0 and _gpus_run_triton())


def _gpus_run_triton() -> bool:
    try:
        gpus = jax.local_devices(backend="cuda")
    except RuntimeError:  # None is here: this is planned for one elsewhere, and all of those are new enough.
        return True
    capabilities = [gpu.compute_capability.split(".") for gpu in gpus]
    return all((int(major), int(minor)) >= TRITON_CAPABILITY for major, minor in capabilities)


def keep_largest(x_RxN: jax.Array, k: int, backend: str) -> tuple[jax.Array, jax.Array]:
    """The rows with zeros outside of their k largest magnitudes, and a mask [R] of rows that stay unchanged.

    Ties and NaN are treated as in `topk.rows.abs_top_k`. It can be vmapped over lanes, and rows may be
    sharded over several GPUs: each runs the kernel on its own. Channels sharded over several GPUs (a mesh
    with a tensor axis) are gathered first, which the search in plain JAX would not need.
    """
    return _of_lanes(k, backend)(x_RxN)


@functools.cache
def _of_lanes(k: int, backend: str):
    """Adds vmap and sharding to the kernel: lanes become rows, and rows stay on their devices."""

    def run(x_RxN):
        return _run(x_RxN, k, backend)

    def partition(mesh, arguments, _):
        spec = arguments[0].sharding.spec
        rows = spec[0] if len(spec) else None
        one, matrix = (NamedSharding(mesh, PartitionSpec(*axes)) for axes in ((rows,), (rows, None)))
        return mesh, run, (matrix, one), (matrix,)

    rows = run
    if backend != "tpu":
        rows = custom_partitioning(run)
        rows.def_partition(partition, sharding_rule="r n -> r n, r", need_replication_factors=("n",))
    of_rows = jax.custom_batching.custom_vmap(jax.jit(rows))

    @of_rows.def_vmap
    def of_lanes(lanes: int, _, x_LxRxN):
        found = of_rows(x_LxRxN.reshape(-1, x_LxRxN.shape[-1]))
        return tuple(x.reshape(lanes, -1, *x.shape[1:]) for x in found), (True, True)

    return of_rows


def _run(x_RxN, k: int, backend: str):
    rows, width = x_RxN.shape
    block = block_rows(rows, width, backend)
    whole = pl.BlockSpec((block, width), lambda i: (i, 0))
    stays_RxN, is_whole_Rx1 = pl.pallas_call(
        functools.partial(_search, k=k),
        grid=(pl.cdiv(rows, block),),
        in_specs=[whole],
        out_specs=[whole, pl.BlockSpec((block, 1), lambda i: (i, 0))],
        out_shape=[
            jax.ShapeDtypeStruct(x_RxN.shape, x_RxN.dtype),
            jax.ShapeDtypeStruct((rows, 1), jnp.int32),
        ],
        compiler_params=triton.CompilerParams(num_warps=8) if backend == "cuda" else None,
        interpret=backend == "interpret",
    )(x_RxN)
    return stays_RxN, is_whole_Rx1[:, 0] != 0


def block_rows(rows: int, width: int, backend: str) -> int:
    """The number of rows per block, for `rows` rows in total.

    On a GPU all blocks are full, because Triton would read and write past the last row. A TPU does not, but
    needs whole registers.
    """
    block = min(max(BLOCK_ENTRIES[backend] // width, 1), 256)
    if backend == "tpu":
        return block // TPU_ROWS * TPU_ROWS
    return math.gcd(rows, block) if backend == "cuda" else block


def _search(x_ref, stays_ref, is_whole_ref, k: int):
    """The largest t that at least k keys of a row reach, from its highest bit down."""
    x = x_ref[...]
    pattern = lax.bitcast_convert_type(x.astype(jnp.float32), jnp.int32)
    keys = jnp.minimum(pattern & 0x7FFFFFFF, 0x7FFFFFFE)
    bits = 8 * x.dtype.itemsize - 1  # the lower ones of a widened bfloat16 are all 0

    def next_bit(step, threshold):
        trial = threshold + (jnp.int32(1) << (30 - step))
        reach = jnp.sum((keys >= trial).astype(jnp.int32), axis=1, keepdims=True)
        return jnp.where(reach >= k, trial, threshold)

    threshold = lax.fori_loop(0, bits, next_bit, jnp.zeros((x.shape[0], 1), jnp.int32))
    stays_ref[...] = jnp.where(keys >= threshold, x, jnp.zeros_like(x))
    is_whole_ref[...] = (threshold == 0).astype(jnp.int32)
