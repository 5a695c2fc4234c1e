"""Metric writers: JSON lines always, TensorBoard on request."""

import contextlib
import json
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol

from sparse_jax.buckets import BucketPath
from sparse_jax.files import json_lines, user_path, write_whole
from sparse_jax.inputs import InputError

# Cloud Storage takes about one write a second of the same object.
REWRITE_SECONDS = 30.0

Row = Mapping[str, float | int | str]


class Writer(Protocol):
    """Takes one row of scalars per step."""

    def write(self, step: int, row: Row) -> None: ...

    def flush(self) -> None:
        """Everything that was written is kept, whatever happens to the process."""

    def close(self) -> None: ...


class JsonLinesWriter:
    """Appends {"step": ..., ...} lines to a file.

    On resuming from `resume_step`, later lines of the earlier attempt are dropped, so that every step
    occurs once.
    """

    def __init__(self, path: str | os.PathLike, resume_step: int = 0):
        self._path = Path(path)
        kept = [row for row in read_rows(self._path) if row["step"] <= resume_step] if resume_step else []
        write_whole(self._path, json_lines(kept))
        self._file = self._path.open("a", buffering=1)

    def write(self, step: int, row: Row) -> None:
        """Writes and flushes one line, so that a killed run keeps its metrics.

        Raises InputError naming the file if it cannot be written.
        """
        try:
            self._file.write(json_lines([{"step": step, **row}]))
        except OSError as error:
            with contextlib.suppress(OSError):  # closing would try to write the line again
                self._file.close()
            raise InputError(f"{self._path}: cannot be written ({error.strerror})") from None

    def flush(self) -> None:
        """Nothing: every line is flushed."""

    def close(self) -> None:
        """Closes the file."""
        self._file.close()


class BucketLinesWriter:
    """The same lines as an object in a bucket, which cannot be appended to.

    It is written anew by `flush` and `close`, and with a row if REWRITE_SECONDS have passed. A killed run
    that goes on makes the rows that are missing: `flush` comes before every checkpoint.
    """

    def __init__(self, path: Path, resume_step: int, still_held: Callable[[], None]):
        """still_held: raises InputError if another run may write the object by now."""
        self._path, self._still_held = path, still_held
        kept = [row for row in read_rows(path) if row["step"] <= resume_step] if resume_step else []
        self._lines, self._dirty = [json_lines(kept)], True
        self.flush()

    def write(self, step: int, row: Row) -> None:
        """Keeps a line. Raises InputError naming the object if it cannot be written."""
        self._lines.append(json_lines([{"step": step, **row}]))
        self._dirty = True
        if time.monotonic() - self._written >= REWRITE_SECONDS:
            self.flush()

    def flush(self) -> None:
        """Writes the object, unless it is as it was."""
        if self._dirty:
            self._still_held()
            write_whole(self._path, "".join(self._lines))
            self._dirty, self._written = False, time.monotonic()

    def close(self) -> None:
        """Writes the object."""
        self.flush()


def lines_writer(path: Path, resume_step: int, still_held: Callable[[], None]) -> Writer:
    """A writer of JSON lines, on a disk or in a bucket."""
    if isinstance(path, BucketPath):
        return BucketLinesWriter(path, resume_step, still_held)
    return JsonLinesWriter(path, resume_step)


class TensorBoardWriter:
    """Scalars as TensorBoard events (needs the `tensorboard` extra)."""

    def __init__(self, directory: str | os.PathLike):
        try:
            from tensorboardX import SummaryWriter
        except ImportError:
            raise InputError(
                "training.tensorboard: True needs tensorboardX; valid: pip install 'sparse_jax[tensorboard]'"
            ) from None
        self._writer = SummaryWriter(str(directory))

    def write(self, step: int, row: Row) -> None:
        """Adds every number of the row."""
        for name, value in row.items():
            if isinstance(value, (int, float)):
                self._writer.add_scalar(name, value, step)

    def flush(self) -> None:
        """Writes what is buffered."""
        self._writer.flush()

    def close(self) -> None:
        """Flushes and closes the event file."""
        self._writer.close()


def read_rows(path: str | os.PathLike) -> list[dict]:
    """The rows of a JSON-lines file; a last line cut off by a kill is ignored.

    Raises InputError naming the file if it cannot be read, or any other line is not a JSON object.
    """
    path = user_path(path)
    rows = []
    try:
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read ({error}); valid: JSON lines") from None
    for number, line in enumerate(lines, 1):
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            row = None
        if isinstance(row, dict):
            rows.append(row)
        elif row is not None or number < len(lines):
            raise InputError(f"{path}: line {number} is damaged; valid: the file without it")
    return rows
