"""Being asked to stop: SIGTERM, because the machine is taken back, or Ctrl-C."""

import contextlib
import itertools
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any

import jax
from jax.experimental import multihost_utils

# EX_TEMPFAIL of sysexits.h: to be tried again
STATUS = 75


class Preempted(RuntimeError):
    """The run was told to make room and has saved; the same command goes on."""


Asked = Callable[[], signal.Signals | None]
# What JAX's service is told. It picks the number after the highest that any process has told as the one to
# stop at, so a number must mean the same on all and never come again, as a step does after a skipped batch.
_calls = itertools.count(1)


@contextlib.contextmanager
def stop_requests() -> Iterator[Asked]:
    """A function that gives the signal by which the run was asked to stop, or None.

    It has to be called after every batch. In a run of several processes JAX's preemption service tells all
    of them the same batch to stop at, whichever of them got SIGTERM. In a single process SIGTERM and SIGINT
    are noted, and a second one acts at once, as outside the block; outside the main thread, where Python
    hears no signals, neither is.
    """
    if jax.distributed.is_initialized():
        reached = multihost_utils.reached_preemption_sync_point
        yield lambda: signal.SIGTERM if reached(next(_calls)) else None
        return
    received: list[signal.Signals] = []
    before: dict[signal.Signals, Any] = {}

    def note(number: int, frame: object) -> None:
        received.append(signal.Signals(number))
        give_back()

    def give_back() -> None:
        for each, handler in before.items():
            signal.signal(each, handler)

    if threading.current_thread() is threading.main_thread():
        for each in (signal.SIGTERM, signal.SIGINT):
            before[each] = signal.signal(each, note)
    try:
        yield lambda: received[0] if received else None
    finally:
        give_back()
