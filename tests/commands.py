"""Commands of experiments in processes of their own, without a second or two of imports each."""

import contextlib
import itertools
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]


@contextlib.contextmanager
def commands(folder: Path) -> Iterator[Callable]:
    """Gives run(module, *arguments), as `python -m experiments.MODULE ARGUMENT...` on one device would.

    Its result is that of subprocess.run with text. folder: for what they print.
    """
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": "1"}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    command = [sys.executable, "-m", "tests.forked"]
    with subprocess.Popen(command, cwd=ROOT, env=environment, text=True, **pipes) as server:
        number = itertools.count()

        def run(module, *arguments):
            out, err = (folder / f"{next(number)}" for _ in range(2))
            request = [module, [*map(str, arguments)], str(out), str(err)]
            print(json.dumps(request), file=server.stdin, flush=True)
            status = int(server.stdout.readline())
            return subprocess.CompletedProcess(request, status, out.read_text(), err.read_text())

        yield run
        server.stdin.close()
