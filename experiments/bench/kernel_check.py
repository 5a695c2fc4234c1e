"""AbsTopK's kernel beside two references, bit for bit: a sort on the host, and the search in plain JAX."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from experiments.bench.timing import best
from sparse_jax.topk import kernel
from sparse_jax.topk.rows import abs_top_k_mask

AWKWARD = (0.0, -0.0, 1.0, -1.0, 1e-45, -1e-40, 3e38, np.inf, -np.inf, np.nan)


def kernel_backend() -> str:
    """The kernel's name for the devices of this process; on a CPU, Pallas' interpreter."""
    return {"gpu": "cuda", "tpu": "tpu"}.get(jax.default_backend(), "interpret")


def check_kernel(width: int, dtype: str, rows: Sequence[int], repeats: int) -> dict[str, object]:
    """Compares all numbers of rows with several k; times the last one at a quarter of the width.

    It has an "error" if any entry, or what the kernel says about whole rows, differs in a bit.
    """
    backend, compared, wrong = kernel_backend(), 0, []
    for count in rows:
        x = _awkward_rows(count, width).astype(dtype)
        on_host, keys = np.asarray(x), _keys(x)
        ranked = np.sort(keys, axis=1)
        for k in sorted({1, max(1, width // 4), width - 1}):
            found, is_whole, plain = _programs(k, backend)(x)
            cut = ranked[:, -k]
            expected = np.where(keys >= cut[:, None], on_host, np.zeros_like(on_host))
            compared += x.size
            is_same = np.array_equal(_bits(found), _bits(expected))
            if not (is_same and np.array_equal(is_whole, cut == 0)):
                wrong.append(f"kernel, {count} rows, k={k}")
            if not np.array_equal(_bits(plain), _bits(expected)):
                wrong.append(f"plain, {count} rows, k={k}")
    row = {"backend": backend, "entries": compared, **_times(x, max(1, width // 4), backend, repeats)}
    return row | ({"error": f"other bits: {'; '.join(wrong)}"} if wrong else {})


def _awkward_rows(count: int, width: int) -> jax.Array:
    """Random rows; some tie often, are mostly zero, or have denormal and infinite numbers and NaN."""
    rng = np.random.default_rng(count * width)
    x = rng.normal(size=(count, width)).astype(np.float32)
    x[1::5] = np.round(x[1::5])
    x[2::5] *= rng.random(x[2::5].shape) < 0.1
    x[3::5] = rng.choice(np.float32(AWKWARD), x[3::5].shape)
    return jnp.asarray(x)


def _programs(k: int, backend: str):
    @jax.jit
    def run(x):
        return (*kernel.keep_largest(x, k, backend), jnp.where(abs_top_k_mask(x, k), x, 0))

    return run


def _keys(x: jax.Array) -> np.ndarray:
    """Magnitudes as the bit patterns that they are, by which they are compared; all NaN are one."""
    bits = _bits(x)
    above_all = np.iinfo(bits.dtype).max
    return np.minimum(bits & above_all, above_all - 1)


def _bits(x: np.ndarray | jax.Array) -> np.ndarray:
    array = np.asarray(x)
    return array.view(f"i{array.dtype.itemsize}")


def _times(x: jax.Array, k: int, backend: str, repeats: int) -> dict[str, float]:
    """Milliseconds of kernel and search, and the bytes that the kernel reads and writes a second."""
    by_kernel = jax.jit(lambda x: kernel.keep_largest(x, k, backend)[0])
    by_search = jax.jit(lambda x: jnp.where(abs_top_k_mask(x, k), x, 0))
    seconds = {}
    for name, call in (("kernel", by_kernel), ("plain", by_search)):
        jax.block_until_ready(call(x))
        seconds[name] = best(lambda call=call: call(x), repeats).wall
    speed = 2e-9 * x.size * x.dtype.itemsize / seconds["kernel"]
    return {f"{name}_ms": 1e3 * value for name, value in seconds.items()} | {"kernel_gb_s": speed}
