"""Directories that are written whole or not at all, by one builder at a time."""

import contextlib
import errno
import fcntl
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from sparse_jax import lease
from sparse_jax.buckets import BucketPath
from sparse_jax.inputs import InputError


@contextlib.contextmanager
def building(directory: Path) -> Iterator[None]:
    """Makes `directory`, keeps other processes of this machine from building in it meanwhile.

    In a bucket, it keeps out those of all machines. Raises InputError as `naming` does.
    """
    with naming(directory):
        if isinstance(directory, BucketPath):
            with lease.held(directory / ".lock", lambda holder: _say_waiting(directory)):
                yield
            return
        directory.mkdir(parents=True, exist_ok=True)
        with (directory / ".lock").open("w") as lock:
            _wait_for(lock, directory)
            yield


@contextlib.contextmanager
def naming(directory: Path) -> Iterator[None]:
    """Raises InputError naming `data.directory` for what goes wrong with writing: no room, no permission."""
    try:
        yield
    except (OSError, RuntimeError) as error:
        reason = _why_not_written(error)
        if reason is None:
            raise
        raise InputError(f"data.directory: cannot write to {str(directory)!r} ({reason})") from None


@contextlib.contextmanager
def new_folder(final: Path) -> Iterator[Path]:
    """A folder to fill, which becomes `final` at the end, or vanishes if that is not reached."""
    final.parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=f"{final.name}.unfinished.", dir=final.parent))
    try:
        yield folder
        folder.chmod(0o755)
        try:
            folder.rename(final)
        except OSError:
            if not final.exists():  # else another machine was faster, with the same content
                raise
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _wait_for(lock: TextIO, directory: Path) -> None:
    with contextlib.suppress(OSError):  # some network file systems have no locks
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            _say_waiting(directory)
            fcntl.flock(lock, fcntl.LOCK_EX)


def _say_waiting(directory: Path) -> None:
    sys.stderr.write(f"data: another process is preparing {directory}; waiting for it\n")


def _why_not_written(error: BaseException) -> str | None:
    """The system's words for what went wrong, if it was the system and not us."""
    for each in (error, error.__cause__):
        if isinstance(each, OSError) and each.strerror:
            return each.strerror
    # The array_record writer passes them on inside the text of a RuntimeError.
    words = [os.strerror(code) for code in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)]
    return next((each for each in words if each in str(error)), None)
