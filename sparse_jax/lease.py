"""A lock in a bucket: an object that says who has it, written again and again while its holder lives."""

import contextlib
import json
import os
import secrets
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator

from sparse_jax.buckets import BucketPath, Changed
from sparse_jax.inputs import InputError
from sparse_jax.progress import finish_line

# An object that was not written for so long belongs to a process that is dead, or cut off from the bucket.
LEASE_SECONDS = 60.0
# How often its holder writes it in that time.
RENEWALS = 4


class Held(Exception):
    """The lock belongs to a process that lives; the message says to which."""


class Lease:
    """A lock that this process holds. In the background it is written again and again."""

    def __init__(self, path: BucketPath, content: bytes, generation: int):
        self._path, self._content, self._generation = path, content, generation
        self._renewed, self._lost = time.monotonic(), False
        self._writing, self._done = threading.Lock(), threading.Event()
        self._thread = threading.Thread(target=self._keep, name=f"lease of {path}", daemon=True)
        self._thread.start()

    def require(self) -> None:
        """Raises InputError if another process may have taken the lock over; to be called before writing."""
        if time.monotonic() - self._renewed > LEASE_SECONDS / 2:
            try:
                self._renew()
            except OSError as error:
                raise InputError(f"{self._path}: cannot be written ({error.strerror})") from None
        if self._lost:
            raise InputError(
                f"{self._path}: taken over by {holder(self._path) or 'another process'}, as this one did not "
                f"write it for {LEASE_SECONDS:g} s; valid: let that process finish"
            )

    def end(self) -> None:
        """Gives the lock back."""
        self._done.set()
        self._thread.join()
        with contextlib.suppress(OSError):  # taken over, or out of reach: then it runs out by itself
            self._path.unlink(replaces=self._generation)

    def _keep(self) -> None:
        while not self._done.wait(LEASE_SECONDS / RENEWALS) and not self._lost:
            with contextlib.suppress(OSError):  # out of reach; `require` tells, if that lasts
                self._renew()

    def _renew(self) -> None:
        with self._writing:
            began = time.monotonic()
            try:
                self._generation = self._path.write_bytes(self._content, self._generation)
            except Changed:
                found = _read(self._path)
                if found is None or found[0] != self._content:
                    self._lost = True
                    return
                self._generation = found[1]  # written, and the answer was lost
            self._renewed = began


def take(path: BucketPath, wait: Callable[[str], None] | None = None) -> Lease:
    """Takes the lock at `path`.

    That of a process that does not write it any more is taken over, after LEASE_SECONDS. If its holder lives,
    Held is raised or, with `wait`, called once with the holder and waited for. Raises OSError if the bucket
    cannot be written.
    """
    content = json.dumps({"holder": _myself(), "token": secrets.token_hex(8)}).encode()
    if wait is not None and (said := holder(path)) is not None:
        wait(said)
    while True:
        replaces = free(path) if wait is None else _free_or_none(path)
        if replaces is None:
            continue
        try:
            return Lease(path, content, path.write_bytes(content, replaces))
        except Changed:
            found = _read(path)
            if found is not None and found[0] == content:  # written, and the answer was lost
                return Lease(path, content, found[1])


def free(path: BucketPath) -> int:
    """The generation that the next holder has to replace: 0 if there is no lock, else that of a dead process.

    Takes LEASE_SECONDS to find out that a process is dead, and says so. Raises Held if it lives.
    """
    said = holder(path)
    if said is None:
        return 0
    finish_line()
    sys.stderr.write(f"{path}: of {said}; waiting up to {LEASE_SECONDS:g} s to see whether that lives\n")
    replaces = _free_or_none(path)
    if replaces is None:
        raise Held(holder(path) or said)
    return replaces


def _free_or_none(path: BucketPath) -> int | None:
    """As `free`; None if its holder lives."""
    found = _read(path)
    end = time.monotonic() + LEASE_SECONDS
    while found is not None and time.monotonic() < end:
        first = found[1]
        time.sleep(LEASE_SECONDS / RENEWALS / 5)
        found = _read(path)
        if found is not None and found[1] != first:
            return None
    return 0 if found is None else found[1]


def holder(path: BucketPath) -> str | None:
    """Who has the lock; None if nobody has."""
    found = _read(path)
    return None if found is None else _holder(found[0])


@contextlib.contextmanager
def held(path: BucketPath, wait: Callable[[str], None] | None = None) -> Iterator[Lease]:
    """Holds the lock until the block ends; see `take`."""
    lease = take(path, wait)
    try:
        yield lease
    finally:
        lease.end()


def _myself() -> str:
    return f"process {os.getpid()} on {socket.gethostname()}"


def _read(path: BucketPath) -> tuple[bytes, int] | None:
    try:
        return path.read_version()
    except FileNotFoundError:
        return None


def _holder(content: bytes) -> str:
    try:
        return str(json.loads(content)["holder"])
    except (ValueError, KeyError, TypeError):
        return "another process"
