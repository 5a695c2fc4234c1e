"""Requests to stop: SIGTERM, for example when a machine is preempted, or Ctrl-C."""

import contextlib
import itertools
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any

import jax
from jax.experimental import multihost_utils

# EX_TEMPFAIL of sysexits.h: try again
STATUS = 75


class Preempted(RuntimeError):
    """The run was preempted and has saved; the same command continues it."""


Asked = Callable[[], signal.Signals | None]
# The number reported to JAX's preemption service, which stops all processes at the number after the highest
# reported one. So a number must mean the same in all processes and never repeat, as a step does after a
# skipped batch.
_calls = itertools.count(1)


@contextlib.contextmanager
def stop_requests() -> Iterator[Asked]:
    """Yields a function that returns the signal by which the run was asked to stop, or None.

    It has to be called after every batch. In a run of several processes, JAX's preemption service makes all
    of them stop at the same batch, whichever of them received SIGTERM. In a single process, SIGTERM and
    SIGINT are noted, and a second one acts at once, as it would outside the block. Outside the main thread,
    where Python cannot handle signals, neither is noted.
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
