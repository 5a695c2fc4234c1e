"""Reads a model from a checkpoint in the workdir of a training run."""

import json
from pathlib import Path

from sparse_jax.data.tokenizer import parse_tokenizer
from sparse_jax.model.config import ModelConfig
from sparse_jax.model.forward import Params, param_shapes
from sparse_jax.models.compact import model_section
from sparse_jax.models.model import Model
from sparse_jax.models.room import require_room_to_load
from sparse_jax.runtime.checkpoint import checkpoint_path, newest_step, read_facts, read_tree, readable


def is_workdir(directory: Path) -> bool:
    """Whether `directory` contains checkpoints of a training run."""
    return (directory / "checkpoints").is_dir()


def read_workdir(directory: Path, step: int | None = None) -> Model:
    """The model of a checkpoint (default: the newest) of a run.

    Raises InputError if there is none, it is damaged, or its parameters do not fit its config.
    """
    step = newest_step(directory) if step is None else step
    path = checkpoint_path(directory, step)
    with readable(path):
        facts = read_facts(path)
        run = json.loads(facts["config"])
        config, tokenizer = model_section(run, path), parse_tokenizer(facts["tokenizer"])
    return Model(config, read_params(directory, config, step), tokenizer, f"{directory} at step {step}", run)


def read_params(directory: Path, config: ModelConfig, step: int) -> Params:
    """The parameters of a checkpoint, on one device. Raises InputError if they do not fit `config` or it."""
    require_room_to_load(config, checkpoint_path(directory, step))
    return read_tree(directory, step, "params", param_shapes(config))
