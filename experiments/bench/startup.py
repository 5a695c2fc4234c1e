"""Times the start of a training run: from the command to its first step. One JSON line each.

python -m experiments.bench.startup --size=M

A first run, which is not timed, prepares the text. The next one has an empty compile cache ("cold"), and the
last one finds what that has left ("warm").
"""

import tempfile
from pathlib import Path

from absl import flags

from experiments import command
from experiments.bench.starting import seconds_to_step
from experiments.bench.timing import print_row
from experiments.bench.train_steps import FRACTION, SIZES

SIZE = flags.DEFINE_enum("size", "M", list(SIZES), "the model and its batch")


def main() -> None:
    """Prints a line for the cold and for the warm start."""
    size = SIZES[SIZE.value]
    model = {"d_model": size.d_model, "n_layers": size.n_layers, "context": size.context}
    model |= {"vocab_size": size.vocab_size, "compute_dtype": size.compute_dtype}
    training = {"steps": 2, "log_every": 1, "evaluation_windows": 16, "batch_size": size.batch_size}
    arguments = ["--config=experiments/configs/pretrain.py:size=small,kind=sparse"]
    arguments += [f"--config.model.{name}={value}" for name, value in model.items()]
    arguments += [f"--config.training.{name}={value}" for name, value in training.items()]
    arguments += [f"--config.sparsity.fraction={max(FRACTION, size.sparsity('constant').fraction)}"]
    with tempfile.TemporaryDirectory() as place:
        for start, cache in (("prepared", "other"), ("cold", "cache"), ("warm", "cache")):
            first, ended = seconds_to_step(arguments, Path(place) / start, Path(place) / cache)
            if start != "prepared":
                print_row({"size": SIZE.value, "start": start, "first_step_s": first, "ended_s": ended})


if __name__ == "__main__":
    command.run(main)
