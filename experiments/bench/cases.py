"""Measures named cases within some minutes; what is measured is kept, and not measured again."""

import contextlib
import os
import signal
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import jax

from experiments.bench.timing import shown
from sparse_jax.files import append_lines, json_lines
from sparse_jax.inputs import first_line
from sparse_jax.runtime.preemption import Preempted
from sparse_jax.runtime.processes import say
from sparse_jax.runtime.writers import read_rows
from sparse_jax.trees import fingerprint

Row = Mapping[str, object]


class Case(NamedTuple):
    """Something to measure: `settings` name it, `measure` gives its rows. A row with an "error" has failed.

    resumes: whether a call that is stopped (SIGTERM) continues where it was.
    """

    part: str
    settings: Row
    measure: Callable[[], Sequence[Row]]
    resumes: bool = False

    def __str__(self) -> str:
        return " ".join([self.part, *(f"{name}={value}" for name, value in self.settings.items())])

    def key(self, machine: Row) -> str:
        """A hash of the case and the machine: rows with this key are of this case."""
        return fingerprint(repr((self.part, dict(self.settings), dict(machine))))[:16]


class Outcome(NamedTuple):
    """The cases that are left, those that failed, and the rows of all that were measured, in order."""

    left: tuple[Case, ...]
    failed: tuple[Case, ...]
    rows: tuple[Row, ...]


class _Kept:
    """A JSON-lines file of rows; a row is on the disk once it is added."""

    def __init__(self, path: Path):
        self._path, self.rows = path, read_rows(path)

    def of(self, key: str) -> list[Row]:
        """The rows of a case; none if it has not been measured."""
        return [row for row in self.rows if row["key"] == key]

    def estimate(self, case: Case, machine: Row) -> float:
        """Seconds of the last case of this kind: of the same part, with the same names of settings."""
        kind = case.settings.keys()
        found = [row for row in self.rows if row["part"] == case.part and kind <= row.keys()]
        seconds = [row["seconds"] for row in found if row["devices"] == machine["devices"]]
        return float(seconds[-1]) if seconds else 0.0

    def add(self, rows: Sequence[Row]) -> None:
        """Appends the rows of a case, all at once."""
        append_lines(self._path, json_lines(rows))
        with self._path.open("rb") as file:
            os.fsync(file.fileno())
        self.rows += rows


def run_cases(
    cases: Iterable[Case],
    path: Path,
    minutes: float,
    machine: Row,
    clock: Callable[[], float] = time.monotonic,
) -> Outcome:
    """Measures the cases without rows in the file `path`, in order, for about `minutes` at most.

    machine: what makes a measurement another one, such as "devices" and the code; every row has it.

    A case is not started if the last one of its kind took longer than what is left. One that still runs at
    the end is stopped as by SIGTERM, and measured by the next call; if it had all minutes for itself and does
    not resume, it has failed instead, so that the next call gets to the others. A case that raises has failed
    too, and the others go on. What has failed is not measured again while its row is there.

    Raises Preempted if this process is told to stop by others.
    """
    cases, kept = tuple(cases), _Kept(path)
    end, before = clock() + 60 * minutes, None
    for case in cases:
        began = clock()
        expected = 0 if case.resumes else kept.estimate(case, machine)
        if kept.of(case.key(machine)) or began >= end or began + expected > end:
            continue
        if before and before.part != case.part:
            jax.clear_caches()  # programs hold constants, and the next ones may need the memory
        say(f"{case} ({(end - began) / 60:.1f} minutes are left)")
        found = _measured(case, end - began, may_fail=not (before or case.resumes))
        seconds, before = round(clock() - began, 2), case
        about = {"part": case.part, **case.settings}
        measured = {"seconds": seconds, **machine, "key": case.key(machine)}
        kept.add([about | shown(row) | about | measured for row in found])
    rows = [(case, kept.of(case.key(machine))) for case in cases]
    return Outcome(
        left=tuple(case for case, found in rows if not found),
        failed=tuple(case for case, found in rows if any("error" in row for row in found)),
        rows=tuple(row for _, found in rows for row in found),
    )


def _measured(case: Case, seconds: float, may_fail: bool) -> Sequence[Row]:
    """The rows of a case, or one with the error; none if it was stopped after `seconds`.

    may_fail: whether it has failed if it was stopped.
    """
    is_over = threading.Event()
    try:
        with _stopped_after(seconds, is_over):
            return case.measure()
    except Preempted:
        if not is_over.is_set():
            raise
        return [{"error": f"not done after {seconds / 60:.2g} minutes"}] if may_fail else []
    except Exception as error:
        say(traceback.format_exc().rstrip())
        return [{"error": f"{type(error).__name__}: {first_line(error)}"}]


@contextlib.contextmanager
def _stopped_after(seconds: float, is_over: threading.Event) -> Iterator[None]:
    """Sends this process SIGTERM after `seconds`, and sets `is_over`.

    Inside the block SIGTERM raises Preempted, unless training takes it, which saves first.
    """

    def stop() -> None:
        is_over.set()
        os.kill(os.getpid(), signal.SIGTERM)

    timer = threading.Timer(seconds, stop)
    timer.daemon = True
    before = signal.signal(signal.SIGTERM, _make_room)
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        signal.signal(signal.SIGTERM, before)


def _make_room(number: int, frame: object) -> None:
    raise Preempted("SIGTERM: stopped at once; the same command continues from what is saved")
