"""Best times of repeated calls, and the speed of a large matrix product beside them."""

import time
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp


class Seconds(NamedTuple):
    """Of one call: on the wall, and of all the process's threads together (what a busy machine tells)."""

    wall: float
    cpu: float


def best(call: Callable[[], object], repeats: int) -> Seconds:
    """The smallest times of `repeats` calls, each waited for; what compiles must have run before."""
    found = []
    for _ in range(repeats):
        cpu, wall = time.process_time(), time.perf_counter()
        jax.block_until_ready(call())
        found.append(Seconds(time.perf_counter() - wall, time.process_time() - cpu))
    return Seconds(*map(min, zip(*found)))


def matmul_gflops(repeats: int = 8) -> tuple[float, float]:
    """GFLOP/s of a square float32 product, by the wall and by the CPU's time."""
    size = 2048 if jax.default_backend() == "cpu" else 8192
    square = jnp.ones((size, size))
    product = jax.jit(jnp.matmul)
    jax.block_until_ready(product(square, square))
    seconds = best(lambda: product(square, square), repeats)
    return tuple(2e-9 * size**3 / value for value in seconds)
