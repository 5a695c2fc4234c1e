"""Measures the cost of saving in a training run, by alternating rounds with and without it."""

import statistics
import time
from pathlib import Path

from tokenizers import Tokenizer, models

from experiments.bench.train_steps import VARIANTS, Runner, Size
from sparse_jax.data.config import DataConfig, SourceConfig
from sparse_jax.training.config import RunConfig, TrainConfig
from sparse_jax.training.optimizer import OptimizerConfig
from sparse_jax.training.resume import Checkpoints
from sparse_jax.training.state import Position


def turn(runner: Runner, checkpoints: Checkpoints, steps: int, every: int) -> dict[str, float]:
    """Runs `steps` steps and saves in the middle of every `every`; milliseconds per step and per save."""
    held = []
    began = time.perf_counter()
    for step in range(steps):
        runner()
        if every and step % every == every // 2:
            start = time.perf_counter()
            checkpoints.save_state(runner.state, Position({"next_index": step}))
            held.append(time.perf_counter() - start)
    spent = {"ms": 1e3 * (time.perf_counter() - began) / steps}
    checkpoints.wait()
    return spent | ({"held_ms": 1e3 * statistics.median(held)} if held else {})


def written(runner: Runner, checkpoints: Checkpoints) -> float:
    """Milliseconds from the start of a save until it is on disk."""
    runner()
    start = time.perf_counter()
    checkpoints.save_state(runner.state, Position({"next_index": 0}))
    checkpoints.wait()
    return 1e3 * (time.perf_counter() - start)


def measure(size: Size, every: list[int], steps: int, turns: int, workdir: Path) -> list[dict[str, float]]:
    """A row for every interval between saves."""
    fraction, schedule = VARIANTS["sparse"]
    data = DataConfig({"none": SourceConfig("simple_python")})
    training = TrainConfig(batch_size=size.batch_size)
    config = RunConfig(size.model(fraction), size.sparsity(schedule), OptimizerConfig(), data, training)
    runner = Runner(size, "sparse")
    checkpoints = Checkpoints(workdir, config, Tokenizer(models.BPE()), "")
    written(runner, checkpoints)
    alone = statistics.median(written(runner, checkpoints) for _ in range(turns))
    found = {n: [] for n in every}
    for _ in range(turns):
        for n in every:
            found[n].append(turn(runner, checkpoints, steps, n))
    checkpoints.close()
    newest = checkpoints.directory / str(checkpoints.latest)
    mb = 1e-6 * sum(path.stat().st_size for path in newest.rglob("*") if path.is_file())
    rows = [{key: statistics.median(row[key] for row in found[n]) for key in found[n][0]} for n in every]
    none = min(row["ms"] for row in rows if "held_ms" not in row)
    about = {"checkpoint_mb": mb, "written_ms": alone}
    return [about | {"every": n} | row | {"over_none": row["ms"] / none} for n, row in zip(every, rows)]
