"""A lock that allows one run at a time in a workdir."""

import contextlib
import errno
import fcntl
import os
import socket
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TextIO

from sparse_jax import lease
from sparse_jax.buckets import BucketPath, Changed
from sparse_jax.inputs import InputError
from sparse_jax.progress import finish_line
from sparse_jax.runtime.processes import is_first

NAME = ".lock"
# How long to retry: another command that only checks the lock holds it for a moment.
LOOK_SECONDS = 0.5


@contextlib.contextmanager
def held(workdir: Path) -> Iterator[Callable[[], None]]:
    """Creates `workdir` and keeps other runs out of it until the block ends or the process dies.

    The system releases the lock of a dead process, so the file alone means nothing; in a bucket, the lock is
    a lease. In a run of several processes, process 0 holds it. Yields a function to call before writing; it
    raises InputError if the lock was lost. Raises InputError if another run is using the workdir.
    """
    path = workdir / NAME
    if not is_first():
        yield _not_lost
        return
    if isinstance(path, BucketPath):
        with _writable(path), _naming(workdir):
            taken = lease.take(path)
        try:
            yield taken.require
        finally:
            taken.end()
        return
    with _writable(path), contextlib.ExitStack() as stack:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = stack.enter_context(path.open("a+"))
        _take(file, fcntl.LOCK_EX, workdir)
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}")
        file.flush()
        kept = stack.pop_all()
    with kept:
        try:
            yield _not_lost
        finally:
            file.truncate(0)


def _not_lost() -> None:
    """The system takes a lock from nobody."""


def refuse_if_held(workdir: Path) -> None:
    """Raises InputError if another run is using `workdir`; creates nothing."""
    path = workdir / NAME
    if isinstance(path, BucketPath):
        with _writable(path), _naming(workdir), contextlib.suppress(FileNotFoundError, Changed):
            # what a dead run has left goes, so that `held` need not wait for it again
            if is_first() and (dead := lease.free(path)):
                path.unlink(replaces=dead)
        return
    if is_first() and path.exists():
        with _writable(path), path.open("a+") as file:
            _take(file, fcntl.LOCK_SH, workdir)


def _take(file: TextIO, kind: int, workdir: Path) -> None:
    try:
        _lock(file, kind)
    except BlockingIOError:
        file.seek(0)
        raise _in_use(workdir, file.read()) from None
    except OSError as error:
        if error.errno not in (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP):
            raise
        finish_line()
        said = f"workdir: {workdir} cannot be locked ({error.strerror}); do not start another run in it"
        sys.stderr.write(f"{said}\n")


def _in_use(workdir: Path, holder: str) -> InputError:
    return InputError(
        f"workdir: {workdir} is in use by {holder or 'another run'}; "
        "valid: another workdir, or this one after that run has ended"
    )


@contextlib.contextmanager
def _naming(workdir: Path) -> Iterator[None]:
    try:
        yield
    except lease.Held as error:
        raise _in_use(workdir, str(error)) from None


def _lock(file: TextIO, kind: int) -> None:
    end = time.monotonic() + LOOK_SECONDS
    while True:
        try:
            return fcntl.flock(file, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > end:
                raise
        time.sleep(0.01)


@contextlib.contextmanager
def _writable(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise InputError(f"workdir: {path} cannot be written ({error.strerror})") from None
