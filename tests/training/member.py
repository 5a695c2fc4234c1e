"""As a script: one process of several which train the run of a JSON file, as the entry scripts do.

Something may happen to it before a batch, so that tests can see what the others make of it.
"""

import json
import os
import signal
import time
from pathlib import Path

from absl import flags

from experiments import command
from sparse_jax.runtime import processes
from sparse_jax.training import loop
from sparse_jax.training.config import run_config

RUN = flags.DEFINE_string("run", None, "JSON file of the run", required=True)
WORKDIR = flags.DEFINE_string("workdir", None, "where it is kept", required=True)
BEFORE = flags.DEFINE_integer("before", None, "the batch, counted from 1, before which something happens")
WHAT = flags.DEFINE_enum(
    "what", "kill", ("kill", "stop", "fail"), "SIGKILL, SIGTERM or a mistake in the code"
)
# JAX's service looks every second whether there was a SIGTERM.
NOTICED_SECONDS = 3


def happen() -> None:
    """What --what says."""
    if WHAT.value == "fail":
        raise LookupError("a mistake")
    os.kill(os.getpid(), signal.SIGKILL if WHAT.value == "kill" else signal.SIGTERM)
    time.sleep(NOTICED_SECONDS)


def disturbed(loader, batch: int):
    """`loader`, but that something happens before this batch."""

    class Disturbed:
        def __getattr__(self, name):
            return getattr(loader, name)

        def __next__(self):
            if loader.get_state()["next_index"] + 1 == batch:
                happen()
            return next(loader)

    return Disturbed()


def main() -> None:
    """Trains; the first process says how it went."""
    original = loop.train_loader
    if BEFORE.value is not None:
        loop.train_loader = lambda *arguments: disturbed(original(*arguments), BEFORE.value)
    model = loop.train(run_config(json.loads(Path(RUN.value).read_text())), WORKDIR.value)
    if processes.is_first():
        print(model.origin)


if __name__ == "__main__":
    # a shell's background jobs, and what they start, ignore Ctrl-C
    signal.signal(signal.SIGINT, signal.default_int_handler)
    # read before the flags are parsed, for joining.start comes before main
    processes.START_SECONDS = int(os.environ.get("START_SECONDS", processes.START_SECONDS))
    command.run(main, several=True)
