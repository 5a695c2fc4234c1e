"""The loader's speed in tokens per second, on the text that a config trains on. One JSON line.

python -m experiments.bench.loader --config=experiments/configs/pretrain.py:size=small,kind=sparse

The text is prepared first if necessary.
"""

import time

from absl import flags

from experiments import command
from experiments.bench.timing import print_row
from sparse_jax.data.corpus import prepare
from sparse_jax.data.loader import train_loader
from sparse_jax.training.config import run_config

BATCHES = flags.DEFINE_integer("batches", 500, "timed batches")


def main() -> None:
    """Prints tokens per second and milliseconds per batch, without the first batch."""
    config = run_config(command.config().to_dict())
    rows, context = config.training.batch_size, config.model.context
    corpus = prepare(config.data, config.model.vocab_size)
    batches = train_loader(corpus, rows, context, config.training.seed)
    next(batches)
    began = time.perf_counter()
    for _ in range(BATCHES.value):
        next(batches)
    seconds = (time.perf_counter() - began) / BATCHES.value
    row = {"batch_size": rows, "context": context, "ms_per_batch": 1e3 * seconds}
    row["tokens_per_second"] = rows * context / seconds
    print_row(row)


if __name__ == "__main__":
    command.run(main)
