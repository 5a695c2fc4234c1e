"""Several processes as one run: they meet and agree before long work, and none is waited for without end.

They meet in the key-value store of JAX's coordinator, a thread of process 0. No device computes anything for
that, so whoever is missing is named, where a collective would only wait.
"""

import contextlib
import hashlib
import itertools
import json
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import jax
from orbax.checkpoint import multihost

import sparse_jax
from sparse_jax.inputs import InputError, first_line
from sparse_jax.progress import finish_line
from sparse_jax.runtime import preemption

# How long processes may lie apart when a run starts: machines boot, text is read.
START_SECONDS = 300
# How long to wait for the others once something has gone wrong.
LOST_SECONDS = 10
# After how long a wait says for whom it is.
SAY_SECONDS = 5

# The exit status of a process that ends because of another, unless that one's says that no restart helps (a
# wrong input, a loss that is not finite): then all have the same, for a scheduler may see any of them first.
LOST = 4
_FINAL = (2, 3)
_ENDED = "sparse_jax/ended"
_meetings = itertools.count()
# Where JAX's service tells all that one was sent SIGTERM. Once they have joined, Python does not hear of it.
_TOLD_TO_STOP = "RECEIVED_PREEMPTION_NOTICE"
# Set while this process asks to join and has not: JAX's answers about the others would have to wait for them.
joining = threading.Event()


class ProcessError(RuntimeError):
    """Other processes of the run are missing or have ended; the message is one line and says which.

    `status`: what the process that raises it has to end with.
    """

    def __init__(self, message: str, status: int = LOST):
        super().__init__(message)
        self.status = status


def say(line: str) -> None:
    """Prints a line for people, after any progress line."""
    finish_line()
    print(line, file=sys.stderr, flush=True)


def is_first() -> bool:
    """Whether this process writes what is written once: metrics, config, progress."""
    return jax.process_index() == 0


def meet(subject: str, word: str, seconds: float = START_SECONDS) -> list[str]:
    """Waits until all processes have come here, and returns everybody's `word`, in order.

    Every process must hold the same meetings in the same order. Raises ProcessError naming those that did
    not come within `seconds`, or that have ended.
    """
    count = jax.process_count()
    if count == 1:
        return [word]
    folder, began, said = f"sparse_jax/{next(_meetings)} {subject}", time.monotonic(), False
    with _answering_coordinator():
        store = multihost.get_jax_distributed_client()
        store.key_value_set(f"{folder}/{jax.process_index()}", word)
        while len(words := _read(store, folder)) < count:
            waited = time.monotonic() - began
            missing = f"process {', '.join(str(i) for i in range(count) if i not in words)} of {count}"
            if ended := _read(store, _ENDED):
                lost = _because_of({i: json.loads(word) for i, word in ended.items()})
                raise _stopped(str(lost)) if lost.status == LOST and _told_to_stop(store) else lost
            if waited > SAY_SECONDS and _told_to_stop(store):
                # so that the missing do not take this process for one that is still here
                store.key_value_delete(f"{folder}/{jax.process_index()}")
                raise _stopped(f"{subject}: waited for {missing}")
            if waited > seconds:
                raise ProcessError(f"{subject}: waited {seconds:.0f} s for {missing}: gone or stuck")
            if waited > SAY_SECONDS and not said:
                said = True
                say(f"{subject}: waiting for {missing}")
            time.sleep(0.1)
    return [words[i] for i in range(count)]


def _told_to_stop(store) -> bool:
    """Whether any process was sent SIGTERM since all have joined."""
    try:
        store.key_value_try_get(_TOLD_TO_STOP)
    except jax.errors.JaxRuntimeError:
        return False
    return True


def _stopped(where: str) -> ProcessError:
    message = f"SIGTERM: stopped at once ({where}); the same command goes on from what is saved"
    return ProcessError(message, preemption.STATUS)


def agree(facts: Mapping[str, object], seconds: float = START_SECONDS) -> None:
    """Raises InputError on every process if `facts` (JSON values) are not the same on all of them.

    It names the first that differs. `seconds` is how long to wait for the slowest process.
    """
    said = [json.loads(word) for word in meet(f"comparing {next(iter(facts))}", json.dumps(facts), seconds)]
    for name, index in itertools.product(said[0], range(len(said))):
        first, other = said[0][name], said[index].get(name)
        if first != other:
            raise InputError(
                f"processes disagree on {name}: {first!r} in process 0, {other!r} in process {index}; "
                "valid: the same command, code and files for all"
            )


def code_version() -> dict[str, str]:
    """What has to be the same on all processes for them to run the same programs."""
    digest, root = hashlib.blake2b(digest_size=8), Path(sparse_jax.__file__).parent
    for path in sorted(root.rglob("*.py")):
        digest.update(f"{path.relative_to(root).as_posix()}\0".encode() + path.read_bytes())
    return {
        "the version of sparse_jax": sparse_jax.__version__,
        "the sources of sparse_jax": digest.hexdigest(),
        "the version of jax": jax.__version__,
    }


@contextlib.contextmanager
def naming_lost() -> Iterator[None]:
    """Turns what devices say when another process has died into a ProcessError that names it and repeats it.

    That may be a ValueError of the runtime: Python asked for a number that a failed collective was to make.
    """
    try:
        yield
    except (InputError, ProcessError):
        raise
    except (jax.errors.JaxRuntimeError, ValueError) as error:
        try:
            meet("after an error of the devices", "", LOST_SECONDS)
        except ProcessError as lost:
            raise ProcessError(f"{lost} ({first_line(error)})", lost.status) from error
        raise


def _because_of(ended: Mapping[int, tuple[str, int]]) -> ProcessError:
    """What those that have ended, each with a reason and a status, mean for this process."""
    said = "; ".join(f"process {i} ended: {why}" for i, (why, _) in ended.items())
    return ProcessError(said, next((status for _, status in ended.values() if status in _FINAL), LOST))


def tell_end(why: object, status: int) -> None:
    """Says to the others, who may be waiting, that this process ends, why, and with which exit status.

    Process 0 lets them read it.
    """
    if joining.is_set() or not jax.distributed.is_initialized() or jax.process_count() == 1:
        return
    with contextlib.suppress(jax.errors.JaxRuntimeError):
        store = multihost.get_jax_distributed_client()
        word = json.dumps([str(why), status])
        store.key_value_set(f"{_ENDED}/{jax.process_index()}", word, allow_overwrite=True)
        deadline = time.monotonic() + LOST_SECONDS / 2
        while is_first() and time.monotonic() < deadline:
            if len(_read(store, _ENDED)) == jax.process_count():
                break
            time.sleep(0.1)


def _read(store, folder: str) -> dict[int, str]:
    """What was put into a folder of the store, by process."""
    return {int(key.rsplit("/", 1)[1]): word for key, word in sorted(store.key_value_dir_get(folder))}


@contextlib.contextmanager
def _answering_coordinator() -> Iterator[None]:
    try:
        yield
    except jax.errors.JaxRuntimeError:
        raise ProcessError("process 0, which keeps the coordinator, is gone") from None
