"""A lower bound on the time of a step, and its cost: a roofline of FLOPs, memory and network."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from sparse_jax.planning.topologies import Chip
from sparse_jax.planning.traffic import Collective, Traffic

# How often a ring of n devices sends what a collective holds, as a share of its bytes.
_SENT = {
    "all-reduce": lambda n: 2 * (n - 1) / n,
    "all-gather": lambda n: (n - 1) / n,
    "reduce-scatter": lambda n: (n - 1) / n,
    "all-to-all": lambda n: (n - 1) / n,
    "collective-permute": lambda n: 1.0,
}


class StepTime(NamedTuple):
    """Seconds of one step for each of three things alone.

    A step takes at least the longest of them, if the others hide behind it; their sum if nothing overlaps.
    What no peak knows of is in neither: starts of kernels, latency of the network, the host. Of the network
    a ring is taken, which a collective over several axes of a torus may beat.
    """

    compute: float
    memory: float
    network: float


def step_time(chip: Chip, flops: Mapping[str, float], moved: Traffic) -> StepTime:
    """flops: of one device, by the type multiplied; `moved`: of one device."""
    return StepTime(
        compute=sum(count / chip.peaks[kind] for kind, count in flops.items()),
        memory=moved.memory / chip.memory_bandwidth,
        network=sum(sent_bytes(one) for one in moved.collectives) / chip.link_bandwidth,
    )


def sent_bytes(one: Collective) -> float:
    """What each device sends in a ring, over all times that the collective runs."""
    return one.times * one.bytes * _SENT[one.kind](one.group)


def by_kind(collectives: Sequence[Collective]) -> dict[str, dict[str, float]]:
    """By kind: how many collectives run in a step, their bytes together, and the bytes of the largest."""
    found: dict[str, dict[str, float]] = {}
    for one in collectives:
        entry = found.setdefault(one.kind, {"count": 0, "bytes": 0, "largest": 0})
        entry["count"] += one.times
        entry["bytes"] += one.times * one.bytes
        entry["largest"] = max(entry["largest"], one.bytes)
    return found


def dollars(seconds: float, devices: int, price: float) -> float:
    """Of `devices` for so long, at `price` an hour each."""
    return seconds / 3600 * devices * price
