"""Bytes that a compiled program moves through memory and between devices, loops counted as they run."""

import math
import re
from typing import NamedTuple

from sparse_jax.planning.hlo import Array, Computation, Instruction, parse

COLLECTIVES = ("all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute")
_MOVE_NOTHING = (
    "parameter",
    "constant",
    "tuple",
    "get-tuple-element",
    "bitcast",
    "after-all",
    "partition-id",
    "replica-id",
    "opt-barrier",
    "while",
    "conditional",
    "call",
)
_SLICING = ("dynamic-slice", "gather", "slice")


class Collective(NamedTuple):
    """One of a program's instructions that moves data between devices.

    bytes: of its result or of what it is given, whichever is more, on each device, once. group: how many
    devices take part together. times: how often it runs.
    """

    kind: str
    bytes: float
    group: int
    times: float


class Traffic(NamedTuple):
    """Of one run of a program, on each device.

    memory: bytes read from and written to the device's main memory. guessed_loops: how many loops there are
    of which the program does not say how often they run.
    """

    memory: float
    collectives: tuple[Collective, ...]
    guessed_loops: int


def traffic(text: str, devices: int, guess: float) -> Traffic:
    """Reads an optimized HLO module; a loop whose number of runs is not known is taken to run `guess` times.

    A fusion reads its operands and writes its results once, of a slice only what it takes; of branches the
    one that moves most counts.
    """
    computations, entry = parse(text)
    return _Walk(computations, devices, guess).of(entry)


def bytes_by_instruction(computations: dict[str, Computation]) -> dict[str, float]:
    """Bytes that one run of each instruction reads from and writes to main memory, by its name.

    Instructions that only run others (loops, branches, calls) move nothing of their own, and those inside a
    fusion are left out.
    """
    walk = _Walk(computations, 1, 1)
    fused = {name for inside in computations.values() for one in inside.values() for name in _fused_by(one)}
    return {
        one.name: 0.0 if one.opcode in _MOVE_NOTHING else walk._of_instruction(one, inside).memory
        for name, inside in computations.items()
        if name not in fused
        for one in inside.values()
    }


def _fused_by(one: Instruction) -> list[str]:
    return one.called if one.opcode == "fusion" else []


class _Walk:
    def __init__(self, computations: dict[str, Computation], devices: int, guess: float) -> None:
        self.computations, self.devices, self.guess = computations, devices, guess
        self.known: dict[str, Traffic] = {}

    def of(self, name: str) -> Traffic:
        """Of one run of a computation."""
        if name not in self.known:
            inside = self.computations[name]
            found = [self._of_instruction(one, inside) for one in inside.values()]
            fused: dict[str, Collective] = {}
            for one in inside.values():
                if one.opcode == "fusion":
                    fused |= self._fused(one)
            self.known[name] = _sum([*found, Traffic(0, tuple(fused.values()), 0)])
        return self.known[name]

    def _of_instruction(self, one: Instruction, inside: Computation) -> Traffic:
        kind = one.opcode.removesuffix("-start")
        if kind in COLLECTIVES:
            return Traffic(0, (self._collective(one, inside),), 0)
        if kind == "while":
            return self._of_loop(one)
        if kind == "conditional":
            return max((self.of(name) for name in one.called), key=lambda found: found.memory)
        if kind == "fusion":
            return Traffic(self._of_fusion(one, inside), (), 0)
        if kind in ("call", "async"):
            return _sum([self.of(name) for name in one.called])
        if kind in _MOVE_NOTHING or kind.endswith("-done"):
            return Traffic(0, (), 0)
        return Traffic(self._plain(one, inside), (), 0)

    def _collective(self, one: Instruction, inside: Computation) -> Collective:
        given = [array for name in one.operands for array in inside[name].arrays]
        # what is begun gives all that it was given, and then its results; but an all-reduce, in place
        results = one.arrays[len(given) : 2 * len(given)] or one.arrays
        kind = one.opcode.removesuffix("-start")
        return Collective(kind, max(_bytes(given), _bytes(results)), self._group(one), 1)

    def _fused(self, fusion: Instruction) -> dict[str, Collective]:
        """The collectives inside of a fusion by their channels.

        On a TPU the fusions that begin a collective, work while it goes on, and end it, each hold all of it;
        and an all-reduce of which every device keeps its part is a reduce-scatter.
        """
        found: dict[str, Collective] = {}
        for name in fusion.called:
            inside = self.computations[name]
            for one in inside.values():
                if one.opcode == "fusion":
                    found |= self._fused(one)
                elif one.opcode.removesuffix("-start") in COLLECTIVES:
                    match = re.search(r"channel_id=\d+", one.attributes)
                    collective = self._collective(one, inside)
                    if name.startswith("all-reduce-scatter"):
                        collective = collective._replace(kind="reduce-scatter")
                    found[match[0] if match else f"{name}/{one.name}"] = collective
        return found

    def _of_loop(self, one: Instruction) -> Traffic:
        told = self._runs(one)
        times = self.guess if told is None else told
        found = _sum([self.of(name) for name in one.called])
        collectives = tuple(c._replace(times=c.times * times) for c in found.collectives)
        return Traffic(found.memory * times, collectives, found.guessed_loops + (told is None))

    def _runs(self, loop: Instruction) -> int | None:
        """How often a loop runs: what the compiler says, or N where its condition is "counter < N".

        JAX's own loops count from 0 in steps of 1.
        """
        if (match := re.search(r'"known_trip_count":\{"n":"(\d+)"', loop.attributes)) is not None:
            return int(match[1])
        (condition_name,) = re.findall(r"condition=%?([\w.\-]+)", loop.attributes)
        condition = self.computations[condition_name]
        test = _root(condition)
        limits = [condition[name] for name in test.operands if condition[name].opcode == "constant"]
        while test.opcode in ("fusion", "call"):
            test = _root(self.computations[test.called[0]])
        counts = test.opcode == "compare" and "direction=LT" in test.attributes and len(limits) == 1
        return int(limits[0].given) if counts else None

    def _plain(self, one: Instruction, inside: Computation) -> float:
        """Operands and results of an instruction that is in no fusion."""
        if one.opcode in _SLICING:
            return 2 * _main(one.arrays)
        if one.opcode == "dynamic-update-slice":
            return 2 * _main(inside[one.operands[1]].arrays)
        # the results of a copy that is begun are both ends of it, and a flag
        results = one.arrays[:1] if one.opcode.endswith("-start") else one.arrays
        return _main(results) + sum(_main(inside[name].arrays) for name in one.operands)

    def _of_fusion(self, one: Instruction, inside: Computation) -> float:
        fused = self.computations[one.called[0]]
        read = sum(
            min(_main(inside[name].arrays), _read(fused, place)) for place, name in enumerate(one.operands)
        )
        return read + min(_main(one.arrays), _written(fused, _root(fused)))

    def _group(self, one: Instruction) -> int:
        if (match := re.search(r"replica_groups=\[(\d+),(\d+)\]", one.attributes)) is not None:
            return int(match[2])
        if (match := re.search(r"replica_groups=\{\{([\d,]+)\}", one.attributes)) is not None:
            return match[1].count(",") + 1
        if (match := re.search(r"replica_groups=mesh\[(.*?)\] \{(.*?)\}", one.attributes)) is not None:
            sizes = dict(re.findall(r"'(\w+)'=(\d+)", match[1]))
            return math.prod(int(sizes[axis]) for axis in re.findall(r"'(\w+)'", match[2]))
        return self.devices


def _root(computation: Computation) -> Instruction:
    return next(one for one in computation.values() if one.is_root)


def _read(fused: Computation, place: int) -> float:
    """The most bytes that a fused computation takes of what it is given at that place."""
    names = [p.name for p in fused.values() if p.opcode == "parameter" and int(p.given) == place]
    total = 0.0
    while names:
        name = names.pop()
        for user in fused.values():
            if name not in user.operands:
                continue
            if user.opcode == "bitcast":
                names.append(user.name)
            elif user.opcode in _SLICING and user.operands[0] == name:
                total += _bytes(user.arrays)
            elif user.opcode == "dynamic-update-slice" and user.operands[0] == name:
                pass  # stays where it is
            else:
                return math.inf
    return total


def _written(fused: Computation, one: Instruction) -> float:
    """The most bytes that a fused computation writes as this result; of an update in place, the update."""
    if one.opcode == "tuple":
        return sum(_written(fused, fused[name]) for name in one.operands)
    if one.opcode == "bitcast":
        return _written(fused, fused[one.operands[0]])
    if one.opcode == "dynamic-update-slice":
        return _bytes(fused[one.operands[1]].arrays)
    return _bytes(one.arrays)


def _bytes(arrays) -> float:
    return sum(array.bytes for array in arrays)


def _main(arrays: tuple[Array, ...]) -> float:
    return sum(array.bytes for array in arrays if array.in_memory)


def _sum(found: list[Traffic]) -> Traffic:
    collectives = tuple(c for one in found for c in one.collectives)
    return Traffic(sum(one.memory for one in found), collectives, sum(one.guessed_loops for one in found))
