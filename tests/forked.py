"""As a script: runs commands of experiments, each in a process of its own that has the libraries already.

Reads a line of JSON for each, [module, arguments, file for stdout, file for stderr]; prints its exit status.
"""

import gc
import importlib
import json
import os
import pkgutil
import runpy
import sys
import traceback
import warnings

import experiments.command  # noqa: F401
import experiments.studies
import sparse_jax

for package in (sparse_jax, experiments.studies):
    for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
        importlib.import_module(module.name)


def become(module: str, arguments: list[str], out: str, err: str) -> None:
    """Ends this process as `python -m experiments.MODULE ARGUMENT...` would."""
    for number, path in ((0, os.devnull), (1, out), (2, err)):
        os.dup2(os.open(path, os.O_RDWR | os.O_CREAT), number)
    sys.argv = [module, *arguments]
    status = 0
    try:
        runpy.run_module(f"experiments.{module}", run_name="__main__", alter_sys=True)
    except SystemExit as ended:
        status = ended.code or 0
    except BaseException:
        traceback.print_exc()
        status = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def main() -> None:
    """Nothing has been computed before a fork, so JAX has no threads yet that would be missing after it."""
    gc.freeze()  # or every child would look through all that is imported
    for line in sys.stdin:
        with warnings.catch_warnings(action="ignore", category=RuntimeWarning):
            child = os.fork()
        if child == 0:
            become(*json.loads(line))
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


if __name__ == "__main__":
    main()
