"""Being asked to stop: SIGTERM, because the machine is taken back, or Ctrl-C."""

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator

import jax
from jax.experimental import multihost_utils

# EX_TEMPFAIL of sysexits.h: to be tried again
STATUS = 75


class Preempted(RuntimeError):
    """The run was told to make room and has saved; the same command goes on."""


Asked = Callable[[int], signal.Signals | None]


@contextlib.contextmanager
def stop_requests() -> Iterator[Asked]:
    """A function of the step just made: the signal by which the run was asked to stop, or None.

    It has to be called after every step. In a run of several processes JAX's preemption service tells all
    of them the same step to stop at, whichever of them got SIGTERM. In a single process SIGTERM and SIGINT
    are noted, and a second one acts at once, as outside the block; outside the main thread, where Python
    hears no signals, neither is.
    """
    if jax.distributed.is_initialized():
        yield lambda step: signal.SIGTERM if multihost_utils.reached_preemption_sync_point(step) else None
        return
    received: list[signal.Signals] = []
    before = {}

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
        yield lambda step: received[0] if received else None
    finally:
        give_back()
