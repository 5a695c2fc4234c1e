"""As a script: runs modules, each in a process of its own that has the libraries already.

Reads lines of JSON. {"module", "arguments", "out", "err", "environment"}: starts `python -m MODULE
ARGUMENT...` with files for what it prints and more variables of the environment; prints its process id.
{"wait", "seconds"}: waits for a process by its id; prints its exit status, or null if it goes on for longer.
"""

import gc
import importlib
import json
import os
import pkgutil
import runpy
import sys
import time
import traceback
import warnings

import jax

import experiments.command  # noqa: F401
import experiments.studies
import sparse_jax

for package in (sparse_jax, experiments.studies):
    for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
        importlib.import_module(module.name)


def become(module: str, arguments: list[str], out: str, err: str, environment: dict[str, str]) -> None:
    """Ends this process as `python -m MODULE ARGUMENT...` would."""
    for number, path in ((0, os.devnull), (1, out), (2, err)):
        os.dup2(os.open(path, os.O_RDWR | os.O_CREAT), number)
    for name, value in environment.items():
        os.environ[name] = value
        if name.startswith("JAX_"):  # read when JAX was imported
            held = getattr(jax.config, name.lower())
            jax.config.update(name.lower(), value if held is None else type(held)(value))
    sys.argv = [module, *arguments]
    status = 0
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    except SystemExit as ended:
        status = ended.code or 0
    except BaseException:
        traceback.print_exc()
        status = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def started(request: dict) -> int:
    """The id of a new process."""
    with warnings.catch_warnings(action="ignore", category=RuntimeWarning):
        child = os.fork()
    if child == 0:
        become(**request)
    return child


def ended(child: int, seconds: float) -> int | None:
    """The exit status of a process; None if it goes on for so long."""
    deadline = time.monotonic() + seconds
    while True:
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() > deadline:
            return None
        time.sleep(0.005)


def main() -> None:
    """Nothing has been computed before a fork, so JAX has no threads yet that would be missing after it."""
    gc.freeze()  # or every child would look through all that is imported
    for line in sys.stdin:
        request = json.loads(line)
        found = ended(request["wait"], request["seconds"]) if "wait" in request else started(request)
        print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main()
