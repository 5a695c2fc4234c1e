"""What only an accelerator can tell, in parts that are ordered by worth, each a list of cases."""

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import jax.numpy as jnp

from experiments.bench.cases import Case, Row
from experiments.bench.device_tests import marked_files, run_file
from experiments.bench.kernel_check import check_kernel, kernel_backend
from experiments.bench.lane_steps import floor_flop, lanes_row, random_task
from experiments.bench.train_steps import SIZES, Size, step_rows
from experiments.bench.wide_pair import wide_pair
from sparse_jax.model.config import ModelConfig
from sparse_jax.pruning.config import PruneConfig
from sparse_jax.topk import kernel


class Extent(NamedTuple):
    """How much of a part is measured.

    widths, rows: of the kernel. pairs, tokens: of a step of a pruning. tests: files, () for all.
    """

    widths: Sequence[int]
    rows: Sequence[int]
    steps: Mapping[str, Size]
    lanes: Sequence[int]
    pruned: ModelConfig
    pairs: int
    tokens: int
    repeats: int
    tests: Sequence[str] = ()


EXTENTS = {
    "full": Extent(
        widths=[2**power for power in range(4, 14)],
        rows=[1, 62, 300, 4096],
        steps=SIZES,
        lanes=[2**power for power in range(9)],
        pruned=ModelConfig(2048, n_layers=4, d_model=256),
        pairs=64,
        tokens=64,
        repeats=9,
    ),
    "tiny": Extent(
        widths=[16],
        rows=[1, 30],
        steps={"tiny": Size(d_model=32, n_layers=1, vocab_size=64, context=16, batch_size=2)},
        lanes=[1, 2],
        pruned=ModelConfig(64, context=16, n_layers=1, d_model=32),
        pairs=4,
        tokens=16,
        repeats=2,
        tests=["tests/topk/test_keys.py"],
    ),
}


def _kernel(folder: Path, size: str) -> Iterator[Case]:
    """The kernel beside its references, bit for bit."""
    extent = EXTENTS[size]
    for width in extent.widths:
        for dtype in ("float32", "bfloat16"):
            if kernel.takes(width, jnp.dtype(dtype), kernel_backend()):
                check = functools.partial(check_kernel, width, dtype, extent.rows, extent.repeats)
                yield Case("kernel", {"width": width, "dtype": dtype}, lambda check=check: [check()])


def _steps(folder: Path, size: str) -> Iterator[Case]:
    """A step of training: all variants of `bench.step` beside the product peak."""
    extent = EXTENTS[size]
    for name, one in extent.steps.items():
        rows = functools.partial(step_rows, name, one, extent.repeats)
        yield Case("steps", {"size": name}, lambda rows=rows: list(rows()))


def _lanes(folder: Path, size: str) -> Iterator[Case]:
    """A step of many prunings side by side, beside one alone."""
    extent = EXTENTS[size]
    for count in extent.lanes:
        yield Case("lanes", {"lanes": count}, functools.partial(_lanes_beside_one, extent, count))


def _lanes_beside_one(extent: Extent, count: int) -> list[Row]:
    prune = PruneConfig(pairs_per_step=extent.pairs)
    task = random_task(extent.pruned, extent.pairs, extent.tokens, 0)
    floor = floor_flop(extent.pruned, 2 * extent.pairs * extent.tokens)
    one, row = (
        lanes_row(extent.pruned, prune, task, floor, lanes, 1, extent.repeats, 2) for lanes in (1, count)
    )
    return [row | {"throughput_of_one": one["ms_per_lane_step"] / row["ms_per_lane_step"]}]


def _pair(folder: Path, size: str) -> Iterator[Case]:
    """The wider pair, trained and pruned."""
    return wide_pair(folder / "pair" / size, size).cases("pair")


def _tests(folder: Path, size: str) -> Iterator[Case]:
    """The tests that are marked `accelerator`."""
    for name in EXTENTS[size].tests or marked_files():
        yield Case("tests", {"file": name}, functools.partial(run_file, name))


PARTS: dict[str, Callable[[Path, str], Iterator[Case]]] = {
    "kernel": _kernel,
    "steps": _steps,
    "lanes": _lanes,
    "pair": _pair,
    "tests": _tests,
}


def all_cases(parts: Sequence[str], folder: Path, size: str) -> list[Case]:
    """The cases of the parts, in the order of the table."""
    return [case for name, make in PARTS.items() if name in parts for case in make(folder, size)]
