"""Best times of repeated calls, and the speed of a large matrix product for comparison."""

import json
import os
import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp

from experiments.bench.processor import processor


class Seconds(NamedTuple):
    """Seconds of one call: wall time, and CPU time of all threads (more reliable on a busy machine)."""

    wall: float
    cpu: float


def best(call: Callable[[], object], repeats: int) -> Seconds:
    """The smallest times of `repeats` calls, each waited for; compile before."""
    found = []
    for _ in range(repeats):
        cpu, wall = time.process_time(), time.perf_counter()
        jax.block_until_ready(call())
        found.append(Seconds(time.perf_counter() - wall, time.process_time() - cpu))
    return Seconds(*map(min, zip(*found)))


def interleaved(
    calls: Mapping[str, Callable[[], object]], repeats: int
) -> tuple[dict[str, float], float | None]:
    """Median seconds of every call, run alternately, and the number of CPUs busy with other processes.

    Each takes its turn twice, and the second time counts: the first one finds the memory and the threads as
    another call has left them.
    """
    found = {name: [] for name in calls}
    began, others = time.perf_counter(), _busy_elsewhere()
    for _ in range(repeats):
        for name, call in calls.items():
            call()
            start = time.perf_counter()
            call()
            found[name].append(time.perf_counter() - start)
    elapsed = time.perf_counter() - began
    load = None if others is None else (_busy_elsewhere() - others) / elapsed
    return {name: statistics.median(values) for name, values in found.items()}, load


def _busy_elsewhere() -> float | None:
    """CPU seconds of all other processes since the machine started; None if unknown."""
    try:
        user, nice, system = map(int, Path("/proc/stat").read_text().split()[1:4])
    except (OSError, ValueError):
        return None
    return (user + nice + system) / os.sysconf("SC_CLK_TCK") - time.process_time()


def matmul_gflops(repeats: int = 8, dtype: str = "float32") -> tuple[float, float]:
    """GFLOP/s of a square product, by wall time and by CPU time."""
    size = 2048 if jax.default_backend() == "cpu" else 8192
    # numbers as in a model: a GPU multiplies ones faster, since they take less power
    square = jax.random.normal(jax.random.key(0), (size, size), dtype)
    product = jax.jit(jnp.matmul)
    jax.block_until_ready(product(square, square))
    seconds = best(lambda: product(square, square), repeats)
    return tuple(2e-9 * size**3 / value for value in seconds)


def print_row(row: Mapping[str, object]) -> None:
    """A line of JSON: the row as `shown`, the device that it was measured on, and the version of JAX."""
    device = {"device": jax.devices()[0].device_kind}
    if jax.default_backend() == "cpu":
        device |= processor()
    print(json.dumps({**shown(row), **device, "jax": jax.__version__}), flush=True)


def shown(row: Mapping[str, object]) -> dict[str, object]:
    """The row with four digits of every number that is not whole."""
    return {name: float(f"{value:.4g}") if isinstance(value, float) else value for name, value in row.items()}
