"""A lower bound on the time of a step, and its cost: a roofline of FLOPs, memory and network."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from sparse_jax.planning.topologies import Chip
from sparse_jax.planning.traffic import Collective, Traffic

# How many times a ring of n devices sends the bytes of a collective.
_SENT = {
    "all-reduce": lambda n: 2 * (n - 1) / n,
    "all-gather": lambda n: (n - 1) / n,
    "reduce-scatter": lambda n: (n - 1) / n,
    "all-to-all": lambda n: (n - 1) / n,
    "collective-permute": lambda n: 1.0,
}


class StepTime(NamedTuple):
    """Seconds of one step for each of three resources alone.

    A step takes at least the longest of them, if the others overlap with it completely, and their sum without
    overlap. Neither includes kernel launches, network latency or the host. The network is modeled as a ring,
    which a collective over several axes of a torus may beat.
    """

    compute: float
    memory: float
    network: float


def step_time(chip: Chip, flops: Mapping[str, float], moved: Traffic) -> StepTime:
    """The times of a step. flops: per device, by dtype of the product. moved: traffic per device."""
    return StepTime(
        compute=sum(count / chip.peaks[kind] for kind, count in flops.items()),
        memory=moved.memory / chip.memory_bandwidth,
        network=sum(sent_bytes(one) for one in moved.collectives) / chip.link_bandwidth,
    )


def sent_bytes(one: Collective) -> float:
    """Bytes that each device sends in a ring, over all runs of the collective."""
    return one.times * one.bytes * _SENT[one.kind](one.group)


def by_kind(collectives: Sequence[Collective]) -> dict[str, dict[str, float]]:
    """By kind: the number of collectives in a step, their total bytes, and the bytes of the largest."""
    found: dict[str, dict[str, float]] = {}
    for one in collectives:
        entry = found.setdefault(one.kind, {"count": 0, "bytes": 0, "largest": 0})
        entry["count"] += one.times
        entry["bytes"] += one.times * one.bytes
        entry["largest"] = max(entry["largest"], one.bytes)
    return found


def dollars(seconds: float, devices: int, price: float) -> float:
    """The cost of `devices` for this time, at `price` per device and hour."""
    return seconds / 3600 * devices * price
