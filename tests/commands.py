"""Modules as processes of their own, without a second or two of imports each."""

import contextlib
import itertools
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

ROOT = Path(__file__).parents[1]


class Server:
    """Starts processes that are forked from one which has imported the libraries (tests/forked.py).

    folder: for what they print. Variables of the environment that have been set since are theirs, too.
    """

    def __init__(self, process: subprocess.Popen, folder: Path):
        self._process, self._folder, self._number = process, folder, itertools.count()
        self._before = dict(os.environ)

    def start(self, module: str, *arguments, environment: Mapping[str, str] | None = None) -> "Started":
        """Starts `python -m MODULE ARGUMENT...` on one device; environment: more variables."""
        since = {name: value for name, value in os.environ.items() if self._before.get(name) != value}
        out, err = (self._folder / f"{next(self._number)}" for _ in range(2))
        request = {"module": module, "arguments": [*map(str, arguments)], "out": str(out), "err": str(err)}
        pid = self.answer({**request, "environment": {**since, **(environment or {})}})
        return Started(self, request, pid, out, err)

    def run(self, module: str, *arguments) -> subprocess.CompletedProcess:
        """The result of a command of experiments, as that of subprocess.run with text."""
        started = self.start(f"experiments.{module}", *arguments)
        status = started.wait()
        return subprocess.CompletedProcess(started.request, status, *started.printed())

    def answer(self, request: dict) -> int | None:
        """What the process replies."""
        print(json.dumps(request), file=self._process.stdin, flush=True)
        return json.loads(self._process.stdout.readline())


class Started:
    """A process that has been started, with as much of `subprocess.Popen` as tests need."""

    def __init__(self, server: Server, request: dict, pid: int, out: Path, err: Path):
        self.request, self.pid, self.returncode = request, pid, None
        self._server, self._out, self._err = server, out, err

    def poll(self, seconds: float = 0) -> int | None:
        """The exit status, None while there is none; waits for it for a while."""
        if self.returncode is None:
            self.returncode = self._server.answer({"wait": self.pid, "seconds": seconds})
        return self.returncode

    def wait(self, timeout: float = 3600) -> int:
        """The exit status. Raises TimeoutExpired."""
        if self.poll(timeout) is None:
            raise subprocess.TimeoutExpired(self.request["module"], timeout)
        return self.returncode

    def printed(self) -> tuple[str, str]:
        """All of stdout and stderr so far."""
        return tuple(path.read_text() if path.exists() else "" for path in (self._out, self._err))

    def send_signal(self, number: int) -> None:
        """Nothing happens to a process that has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)


@contextlib.contextmanager
def forking(folder: Path) -> Iterator[Server]:
    """A server; it ends with the block."""
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": "1"}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    command = [sys.executable, "-m", "tests.forked"]
    with subprocess.Popen(command, cwd=ROOT, env=environment, text=True, **pipes) as process:
        yield Server(process, folder)
        process.stdin.close()
