"""Memory: what is there and free, what programs and arrays take, and how many lanes fit at once."""

import math
import os
from pathlib import Path

import jax
from jax.stages import Compiled

from sparse_jax.inputs import InputError

# Reserved for the runtime and other programs on the machine.
SHARE = 0.85
_MEMINFO = Path("/proc/meminfo")
_CGROUP = Path("/sys/fs/cgroup")


def needed_bytes(compiled: Compiled) -> int:
    """Peak memory of a compiled program on each device: arguments, results and temporaries."""
    found = compiled.memory_analysis()
    assert found is not None  # every backend provides it
    held = found.argument_size_in_bytes + found.output_size_in_bytes - found.alias_size_in_bytes
    return held + found.temp_size_in_bytes


def held_bytes(tree: object) -> int:
    """Bytes of all leaves (shapes with shardings) on each device."""
    leaves = jax.tree.leaves(tree)
    return sum(math.prod(x.sharding.shard_shape(x.shape)) * x.dtype.itemsize for x in leaves)


def whole_bytes(devices: list[jax.Device]) -> float:
    """Memory of each of `devices`, free or not; on a CPU they share it. Infinite where it is not told."""
    if all(device.platform == "cpu" for device in devices):
        return whole_on_host() / len(devices)
    return min((device.memory_stats() or {}).get("bytes_limit", math.inf) for device in devices)


def free_bytes(devices: list[jax.Device]) -> int:
    """Memory that a program may take on each of `devices`, minus a reserve; CPU devices share it."""
    stats = [device.memory_stats() for device in devices]
    if all(stats):
        return usable(min(one["bytes_limit"] - one["bytes_in_use"] for one in stats))
    return usable(free_on_host() / len(devices))


def usable(free: float) -> int:
    """How many of `free` bytes lanes may use."""
    return int(SHARE * free)


def lanes_that_fit(one: float, two: float, free: int) -> int:
    """How many lanes fit into `free` bytes a device, if one lane needs `one` bytes and two need `two`.

    Every further lane needs the same amount; infinite means that the compiler refuses the program. Raises
    InputError if not even one fits.
    """
    if one > free:
        needs = "more than there is" if math.isinf(one) else gigabytes(one)
        raise InputError(
            f"pruning: one lane needs {needs} and {gigabytes(free)} are free on each device; "
            "valid: fewer pruning.pairs_per_step, shorter prompts, or model.remat"
        )
    return 1 + int((free - one) // max(1, two - one))


def said_of(one: float, two: float) -> str:
    """A message about the memory per lane, if one lane needs `one` bytes and two need `two`."""
    return (
        "two do not fit" if math.isinf(two) else f"a lane needs about {gigabytes(max(two - one, one / 100))}"
    )


def gigabytes(count: float) -> str:
    """1234567890 -> "1.23 GB"."""
    return f"{count / 1e9:.3g} GB"


def whole_on_host() -> int:
    """Bytes of the machine's memory, within the container's limit; swap is not counted."""
    machine, limit = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"), _container_limit()
    return machine if limit is None else min(machine, limit)


def free_on_host() -> int:
    """Bytes that the kernel can give away, within the container's limit; all where neither is told."""
    found = [whole_on_host()]
    if _MEMINFO.exists():
        lines = dict(line.split(":", 1) for line in _MEMINFO.read_text().splitlines())
        found.append(1024 * int(lines["MemAvailable"].split()[0]))
    if (limit := _container_limit()) is not None:
        found.append(limit - int((_CGROUP / "memory.current").read_text()))
    return min(found)


def _container_limit() -> int | None:
    """Bytes that the container may use; None if it may use all."""
    limit = _CGROUP / "memory.max"
    said = limit.read_text().strip() if limit.exists() else "max"
    return None if said == "max" else int(said)
