"""Metric writers: JSON lines always, TensorBoard on request."""

import contextlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from sparse_jax.files import json_lines, write_whole
from sparse_jax.inputs import InputError

Row = Mapping[str, float | int | str]


class Writer(Protocol):
    """Takes one row of scalars per step."""

    def write(self, step: int, row: Row) -> None: ...

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

    def close(self) -> None:
        """Closes the file."""
        self._file.close()


class TensorBoardWriter:
    """Scalars as TensorBoard events (needs the `tensorboard` extra)."""

    def __init__(self, directory: str | os.PathLike):
        try:
            from tensorboardX import SummaryWriter
        except ImportError:
            raise InputError(
                "training.tensorboard: True needs tensorboardX; valid: pip install 'sparse_jax[tensorboard]'"
            ) from None
        self._writer = SummaryWriter(os.fspath(directory))

    def write(self, step: int, row: Row) -> None:
        """Adds every number of the row."""
        for name, value in row.items():
            if isinstance(value, (int, float)):
                self._writer.add_scalar(name, value, step)

    def close(self) -> None:
        """Flushes and closes the event file."""
        self._writer.close()


def read_rows(path: str | os.PathLike) -> list[dict]:
    """The rows of a JSON-lines file; a last line cut off by a kill is ignored.

    Raises InputError naming the file if it cannot be read, or any other line is not a JSON object.
    """
    path = Path(path)
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
