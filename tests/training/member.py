"""As a script: one process of several which train the run of a JSON file, as the entry scripts do.

It may kill itself before a step, or come late, so that tests can see what the others make of it.
"""

import json
import os
import signal
import time
from pathlib import Path

from absl import flags

from experiments import command
from sparse_jax.training import loop, processes
from sparse_jax.training.config import run_config

RUN = flags.DEFINE_string("run", None, "JSON file of the run", required=True)
WORKDIR = flags.DEFINE_string("workdir", None, "where it is kept", required=True)
KILL = flags.DEFINE_integer("kill", None, "the batch, counted from 1, before which the process kills itself")
LATE = flags.DEFINE_integer("late", 0, "seconds that the process comes late")


def dying(loader, batches: int):
    """`loader` until that many batches were asked for."""

    class Dying:
        def __getattr__(self, name):
            return getattr(loader, name)

        def __next__(self):
            if loader.get_state()["next_index"] + 1 == batches:
                os.kill(os.getpid(), signal.SIGKILL)
            return next(loader)

    return Dying()


def main() -> None:
    """Trains; the first process says how it went."""
    time.sleep(LATE.value)
    original = loop.train_loader
    if KILL.value is not None:
        loop.train_loader = lambda *arguments: dying(original(*arguments), KILL.value)
    model = loop.train(run_config(json.loads(Path(RUN.value).read_text())), WORKDIR.value)
    if processes.is_first():
        print(model.origin)


if __name__ == "__main__":
    # read before the flags are parsed, for processes.start comes before main
    processes.START_SECONDS = int(os.environ.get("START_SECONDS", processes.START_SECONDS))
    command.run(main, several=True)
