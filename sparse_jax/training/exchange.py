"""Models of every format that is known here, read by what lies in a directory and written by name."""

import os
from pathlib import Path

from sparse_jax.data.config import DataConfig, SourceConfig
from sparse_jax.files import new_directory
from sparse_jax.inputs import InputError, require_choice
from sparse_jax.interop.hugging_face import is_hugging_face, read_hugging_face, write_hugging_face
from sparse_jax.interop.model import Model
from sparse_jax.interop.released import is_released, read_released, write_released
from sparse_jax.model.config import ModelConfig
from sparse_jax.sparsity.config import SparsityConfig
from sparse_jax.sparsity.optimizer import OptimizerConfig
from sparse_jax.training.checkpoint import read_params, read_run
from sparse_jax.training.compact import is_compact, read_compact, save_compact
from sparse_jax.training.config import RunConfig, TrainConfig

FORMATS = ("openai", "safetensors", "hf")


def read_model(directory: str | os.PathLike) -> tuple[Model, RunConfig | None]:
    """A model of any format, and the run that made it where that is known.

    Raises InputError if nothing known is there, or it is damaged or not supported.
    """
    if is_released(directory):
        return read_released(directory), None
    if is_hugging_face(directory):
        return read_hugging_face(directory), None
    if is_compact(directory):
        run, tokenizer, params = read_compact(directory)
        return Model(run.model, params, tokenizer), run
    if not (Path(directory) / "checkpoints").is_dir():
        valid = "a released model, a Hugging Face model, a compact model or the workdir of a run"
        raise InputError(f"{directory}: no model is there; valid: {valid}")
    run, tokenizer, step = read_run(Path(directory))
    return Model(run.model, read_params(Path(directory), run.model, step), tokenizer), run


def write_model(
    model: Model, run: RunConfig | None, directory: str | os.PathLike, kind: str, dense: bool = False
) -> None:
    """Writes a new directory of format `kind`.

    dense: for "safetensors", all weights and not only the nonzero ones. Raises InputError if the directory
    exists, which it leaves alone, if the format is unknown, or if it cannot hold the model.
    """
    require_choice("--format", kind, FORMATS)
    if kind == "openai":
        write_released(model, directory)
    elif kind == "hf":
        write_hugging_face(model, directory)
    else:
        with new_directory(directory) as unfinished:
            save_compact(model.params, run or untrained(model.config), model.tokenizer, unfinished, dense)


def untrained(config: ModelConfig) -> RunConfig:
    """A run for a model that was made elsewhere: its means are measured on the generated programs."""
    data = DataConfig({"simple": SourceConfig("simple_python")})
    return RunConfig(config, SparsityConfig(), OptimizerConfig(), data, TrainConfig())
