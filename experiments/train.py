"""Trains a model, or resumes a stopped run.

python -m experiments.train --config=experiments/configs/pretrain.py:size=tiny --workdir=runs/tiny

The same command resumes a killed run and ends with the same bits. Exit status 75: stopped by SIGTERM after
the current step was finished and saved, start it again; 130: the same by Ctrl-C (a second one, or the first
one in a run of several processes, ends it at once); 4: another process was lost; 3: the loss is not finite;
2: a wrong input, a workdir in use, or a disk that cannot be written.

Several processes train one model: on a TPU pod, under SLURM, Open MPI or Kubernetes, all run this command;
elsewhere, each also needs --coordinator=HOST:PORT --processes=N --process=I.
"""

from experiments import command
from experiments.flag_types import path_flag, paths_flag
from sparse_jax.data.config import sources_of
from sparse_jax.model.forward import summary
from sparse_jax.runtime.processes import is_first
from sparse_jax.training.config import run_config
from sparse_jax.training.loop import train

DATA = paths_flag("data", "train on these alone: directories of .py files, files of text or JSON lines")
WORKDIR = path_flag("workdir", None, "where the run is kept", required=True)


def main() -> None:
    """Trains, then shows what the model is made of."""
    config = command.config().to_dict()
    if DATA.value is not None:
        config["data"] = {**config.get("data", {}), "sources": sources_of(DATA.value)}
    model = train(run_config(config), WORKDIR.value)
    if is_first():
        print(summary(model.params))
        print(f"the model is in {WORKDIR.value}")


if __name__ == "__main__":
    command.run(main, several=True)
