"""Training and pruning steps of one size on all devices of all processes, timed by process 0."""

import json
import os
import socket
import subprocess
import sys

import jax
import numpy as np

from experiments.bench.lane_steps import random_task, time_lanes
from experiments.bench.timing import interleaved
from experiments.bench.train_steps import SIZES, UPDATES, Size
from sparse_jax.data.config import DataConfig, SourceConfig
from sparse_jax.pruning.config import PruneConfig
from sparse_jax.runtime import joining
from sparse_jax.training.config import RunConfig, TrainConfig
from sparse_jax.training.optimizer import OptimizerConfig
from sparse_jax.training.program import train_program

DATA = DataConfig({"none": SourceConfig("simple_python")})  # never read
LANES, PAIRS, TOKENS = 8, 16, 64


def train_ms(size: Size, repeats: int) -> float:
    """Median milliseconds of a sparse step whose batch is split over all devices."""
    training = TrainConfig(steps=UPDATES, batch_size=size.batch_size, mesh_data=jax.device_count())
    config = RunConfig(size.model(0.25), size.sparsity("constant"), OptimizerConfig(), DATA, training)
    program = train_program(config)
    shape = (size.batch_size, size.context + 1)
    tokens = np.random.default_rng(0).integers(1, size.vocab_size, shape, np.int32)
    rows = jax.make_array_from_callback(shape, program.rows, lambda index: tokens[index])
    state = jax.jit(program.fresh, out_shardings=program.shardings)()

    def step() -> None:
        nonlocal state
        state, _ = program.step(state, rows)
        jax.block_until_ready(state)

    return 1e3 * interleaved({"step": step}, repeats)[0]["step"]


def lane_ms(size: Size, repeats: int) -> float:
    """Least milliseconds of a pruning step of one of LANES lanes, which are split over all devices."""
    config = size.model(0.25)
    task = random_task(config, PAIRS, TOKENS, 0)
    prune = PruneConfig(pairs_per_step=PAIRS)
    return 1e3 * time_lanes(config, prune, task, LANES, 1, 5, repeats)[0].wall


def measured(size: str, devices: int, processes: int, repeats: int) -> dict[str, float]:
    """What `main` prints, run in processes of its own. Raises CalledProcessError if one fails."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        address = f"localhost:{free.getsockname()[1]}"
    command_line = [sys.executable, "-m", "experiments.bench.scaling_run", size, str(devices), str(repeats)]
    environment = {**os.environ, "JAX_PLATFORMS": "cpu"}
    each = [[*command_line, str(processes), str(index), address] for index in range(processes)]
    all_of_them = [subprocess.Popen(line, stdout=subprocess.PIPE, env=environment) for line in each]
    outputs = [one.communicate()[0] for one in all_of_them]
    for one in all_of_them:
        if one.returncode:
            raise subprocess.CalledProcessError(one.returncode, command_line)
    return json.loads(outputs[0].splitlines()[-1])


def main(size: str, devices: int, repeats: int, processes: int, process: int, address: str) -> None:
    """Prints a JSON object with times; of several processes, only the first does, and lanes are not run."""
    jax.config.update("jax_num_cpu_devices", devices)
    joining.start(address, processes, process)
    found = {"train_ms": train_ms(SIZES[size], repeats)}
    if processes == 1:
        found["lane_step_ms"] = lane_ms(SIZES[size], repeats)
    if process == 0:
        print(json.dumps(found))


if __name__ == "__main__":
    name, *numbers, where = sys.argv[1:]
    main(name, *map(int, numbers), where)
