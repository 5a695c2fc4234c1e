"""Records when, where and how long a study ran, also if it was stopped and continued."""

import contextlib
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

from sparse_jax.files import append_lines, json_lines
from sparse_jax.runtime.preemption import Preempted
from sparse_jax.runtime.provenance import provenance
from sparse_jax.runtime.writers import read_rows


@contextlib.contextmanager
def recorded(path: Path, command: str) -> Iterator[None]:
    """Appends a line to the JSON-lines file `path` when the block ends, unless it is killed outright.

    The line has command, seconds, cores of the machine, and `provenance` with the time of the start. Inside
    the block, SIGTERM raises Preempted. Use it in the main thread.
    """
    began = time.monotonic()
    line = {"command": command, "cores": os.cpu_count(), **provenance()}
    before = signal.signal(signal.SIGTERM, _make_room)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
        line["seconds"] = round(time.monotonic() - began, 1)
        append_lines(path, json_lines([line]))


def _make_room(number: int, frame: object) -> None:
    raise Preempted("SIGTERM: stopped at once; the same command continues from what is saved")


def read_times(path: Path) -> dict[str, object]:
    """All periods of a study and the sum of their seconds, including those that ran side by side."""
    stretches = read_rows(path)
    return {"seconds": round(sum(one["seconds"] for one in stretches), 1), "each": stretches}
