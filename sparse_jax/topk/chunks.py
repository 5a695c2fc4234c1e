"""Processes many rows in chunks that fit a CPU's cache, which it reads several times faster than memory."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path

import jax

CACHES = Path("/sys/devices/system/cpu/cpu0/cache")
_MOST = 1 << 20


def cache_bytes(caches: Path, cpus: int) -> int:
    """Bytes of the second-level caches of some CPUs, which share the work on a chunk, but at most 1 MB.

    caches: Linux's description of a CPU's; 1 MB where it says nothing. More than that gains nothing where
    caches are larger, and virtual machines may claim one that is not there.
    """
    for one in sorted(caches.glob("index*")):
        try:
            level, size = ((one / name).read_text().strip() for name in ("level", "size"))
        except OSError:
            continue
        if level == "2" and size.endswith("K") and size[:-1].isdecimal():
            return min(_MOST, cpus * int(size[:-1]) << 10)
    return _MOST


def usable_cpus() -> int:
    """How many CPUs this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


# Bytes of one chunk; arrays that are not several times as large are not split.
CACHE_BYTES = cache_bytes(CACHES, usable_cpus())


def in_chunks(function: Callable, arrays: Sequence[jax.Array], row_bytes: int):
    """function(*arrays); arrays and results (a pytree) all begin with the same axis of independent rows.

    row_bytes: bytes per row of the values that the function reads repeatedly. A single CPU device processes
    chunks that fit into its cache. With several devices, which may hold different rows, all rows are
    processed at once; so are numbers of rows without a suitable divisor.
    """
    rows = len(arrays[0])
    part = rows_at_once(rows, row_bytes)
    if part == rows:
        return function(*arrays)
    parts = [array.reshape(-1, part, *array.shape[1:]) for array in arrays]
    found = jax.lax.map(lambda given: function(*given), parts)
    return jax.tree.map(lambda x: x.reshape(rows, *x.shape[2:]), found)


def rows_at_once(rows: int, row_bytes: int) -> int:
    """Rows per chunk, a divisor of `rows`."""
    fit = max(1, CACHE_BYTES // row_bytes)
    if jax.device_count() > 1 or rows < 4 * fit:
        return rows
    part = max(part for part in range(1, fit + 1) if rows % part == 0)
    return part if 4 * part >= fit else rows
