"""What the instructions of a compiled program cost: time by a profile, operations and bytes by its text."""

import math
import re
import tempfile
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import jax
from jax.profiler import ProfileData

import sparse_jax
from sparse_jax.planning.hlo import Computation, Instruction, parse
from sparse_jax.planning.traffic import bytes_by_instruction

PACKAGE = Path(sparse_jax.__file__).parent
ELSEWHERE = "elsewhere"


class Cost(NamedTuple):
    """Of one run of an instruction: FLOP of its matrix products, bytes moved, and the code it is from."""

    flop: float
    bytes: float
    source: str


def part_rows(call: Callable[[], object], text: str, matmul: float) -> list[dict[str, object]]:
    """A row for each function of this package, for all products and for all else, the slowest first.

    call: runs the compiled program of that HLO text. matmul: GFLOP/s of a large product.
    """
    of = costs(text, PACKAGE)
    seconds, runs = profiled(call, text.split(maxsplit=2)[1].rstrip(","))
    parts: dict[tuple[str, bool], list[str]] = defaultdict(list)
    for name in seconds:
        is_product = of[name].flop > 0
        parts[of[name].source, is_product].append(name)
        parts["all products" if is_product else "all else", is_product].append(name)
    whole = sum(seconds.values())

    def row(source: str, is_product: bool, names: list[str]) -> dict[str, object]:
        took = sum(seconds[name] for name in names)
        flop = sum(of[name].flop * runs[name] for name in names)
        moved = sum(of[name].bytes * runs[name] for name in names)
        found = {"part": source, "products": is_product, "ms": 1e3 * took, "share": took / whole}
        found |= {"runs": sum(runs[name] for name in names), "gb_per_s": 1e-9 * moved / took}
        if is_product:
            found |= {"gflops": 1e-9 * flop / took, "of_matmul": 1e-9 * flop / took / matmul}
        return found

    rows = [row(source, is_product, names) for (source, is_product), names in parts.items()]
    return sorted(rows, key=lambda found: -found["share"])


def costs(text: str, package: Path) -> dict[str, Cost]:
    """The cost of each instruction of an optimized HLO module, by name.

    `source` is the innermost function of `package` that the instruction was traced in, as
    "model/attention.attend", or "elsewhere".
    """
    computations, _ = parse(text)
    moved, sources = bytes_by_instruction(computations), _sources(text, package)
    return {
        one.name: Cost(_flop(one, inside, computations), moved[one.name], _source(one, sources))
        for inside in computations.values()
        for one in inside.values()
        if one.name in moved
    }


def _flop(one: Instruction, inside: Computation, computations: Mapping[str, Computation]) -> float:
    if one.opcode == "fusion":
        fused = [computations[name] for name in one.called]
        return sum(_flop(part, within, computations) for within in fused for part in within.values())
    if one.opcode != "dot":
        return 0.0
    left, result = inside[one.operands[0]].arrays[0].sizes, one.arrays[0].sizes
    match = re.search(r"lhs_contracting_dims=\{([\d,]*)\}", one.attributes)
    contracted = [left[int(axis)] for axis in match[1].split(",") if axis] if match else []
    return 2.0 * math.prod(result) * math.prod(contracted)


def _source(one: Instruction, sources: Mapping[str, str]) -> str:
    match = re.search(r"stack_frame_id=(\d+)", one.attributes)
    return sources.get(match[1], ELSEWHERE) if match else ELSEWHERE


def _sources(text: str, package: Path) -> dict[str, str]:
    """The innermost function of the package in each stack frame of a module."""
    files, functions, places, frames = (
        dict(re.findall(r"^(\d+) (.*)$", _section(text, name), re.MULTILINE))
        for name in ("FileNames", "FunctionNames", "FileLocations", "StackFrames")
    )

    def source(frame: str) -> str:
        while frame in frames:
            place = places[_number(frames[frame], "file_location_id")]
            file = Path(files[_number(place, "file_name_id")].strip('"'))
            if file.is_relative_to(package):
                function = functions[_number(place, "function_name_id")].strip('"')
                return f"{file.relative_to(package).with_suffix('')}.{function.split('.<locals>')[0]}"
            frame = str(int(_number(frames[frame], "parent_frame_id")) - 1)  # 0: none
        return ELSEWHERE

    return {frame: source(frame) for frame in frames}


def _section(text: str, name: str) -> str:
    _, found, rest = text.partition(f"\n{name}\n")
    return rest.partition("\n\n")[0] if found else ""


def _number(text: str, name: str) -> str:
    return re.search(rf"\b{name}=(\d+)", text)[1]


def profiled(call: Callable[[], object], module: str) -> tuple[Counter[str], Counter[str]]:
    """Seconds of each instruction of a compiled module in one call, without those that it runs; and runs.

    On a CPU; the time is that of the thread that starts the instruction. The second of two calls counts:
    under the profiler some instructions of the first one take ten times as long. Raises RuntimeError if the
    profiler saw none.
    """
    with tempfile.TemporaryDirectory() as place:
        with jax.profiler.trace(place):
            for _ in range(2):
                jax.block_until_ready(call())
        (path,) = Path(place).rglob("*.xplane.pb")
        data = ProfileData.from_file(str(path))
    lines = [_spans(line, module) for plane in data.planes for line in plane.lines]
    if not any(lines):
        raise RuntimeError(f"the profiler saw no instruction of {module}")
    last = max(span for line in lines for span in line)[-1]
    seconds, runs = Counter(), Counter()
    for line in lines:
        for name, own in _own_times([span[:3] for span in line if span[-1] == last]):
            seconds[name] += 1e-9 * own
            runs[name] += 1
    return seconds, runs


def _spans(line, module: str) -> list[tuple[float, float, str, int]]:
    """Start and end (ns), instruction, and the number of the call, of what a thread ran of a module."""
    found = []
    for event in line.events:
        stats = dict(event.stats)
        if stats.get("hlo_module") == module:
            found.append((event.start_ns, event.end_ns, event.name, stats["run_id"]))
    return found


def _own_times(spans: list[tuple[float, float, str]]) -> Iterator[tuple[str, float]]:
    """Each span's name and its time without the spans inside of it."""
    open_spans: list[list] = []  # [end, name, own time], the innermost last
    for start, end, name in sorted(spans, key=lambda span: (span[0], -span[1])):
        while open_spans and open_spans[-1][0] <= start:
            yield tuple(open_spans.pop()[1:])
        if open_spans:
            open_spans[-1][2] -= end - start
        open_spans.append([end, name, end - start])
    yield from (tuple(one[1:]) for one in open_spans)
