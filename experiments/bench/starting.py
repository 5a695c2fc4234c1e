"""A training run in a process of its own, timed until its first step is done."""

import os
import subprocess
import sys
import time
from pathlib import Path

from sparse_jax.runtime.writers import read_rows


def seconds_to_step(arguments: list[str], folder: Path, cache: Path) -> tuple[float, float]:
    """Seconds until a run of experiments.train has written metrics of a step, and until it has ended.

    folder: the new run's. cache: the compile cache's. Raises RuntimeError with what a run that fails said.
    """
    environment = {**os.environ, "JAX_COMPILATION_CACHE_DIR": str(cache)}
    environment["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.3"
    command_line = [sys.executable, "-m", "experiments.train", *arguments, f"--workdir={folder}"]
    said = folder.with_suffix(".log")
    began, first = time.perf_counter(), None
    with said.open("w") as log:
        process = subprocess.Popen(command_line, env=environment, stdout=log, stderr=log)
    while process.poll() is None:
        # the row of step 0 is from before
        if first is None and any(row["step"] for row in read_rows(folder / "metrics.jsonl")):
            first = time.perf_counter() - began
        time.sleep(0.02)
    if process.returncode or first is None:
        raise RuntimeError(f"{' '.join(command_line)}: {said.read_text()[-2000:]}")
    return first, time.perf_counter() - began
