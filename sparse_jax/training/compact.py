"""A trained model as a small folder: its weights as safetensors, config and tokenizer beside them."""

import os
from pathlib import Path

from tokenizers import Tokenizer

from sparse_jax.files import write_whole
from sparse_jax.interop.json_file import read_json_object
from sparse_jax.interop.model import read_tokenizer, write_tokenizer
from sparse_jax.interop.safetensors_model import pack_weights, read_weights
from sparse_jax.model.forward import Params
from sparse_jax.training.config import RunConfig, run_config

WEIGHTS, CONFIG = "weights.safetensors", "config.json"


def save_compact(
    params: Params,
    run: RunConfig,
    tokenizer: Tokenizer | None,
    directory: str | os.PathLike,
    dense: bool = False,
) -> None:
    """Writes a model of `run` that `read_compact` gives back exactly, each file whole or not at all.

    dense: all weights, not only the nonzero ones; larger, but any reader of safetensors can use them.
    """
    directory = Path(directory)
    write_whole(directory / CONFIG, run.to_json())
    write_tokenizer(tokenizer, directory)
    write_whole(directory / WEIGHTS, pack_weights(params, dense))


def is_compact(directory: str | os.PathLike) -> bool:
    """Whether `save_compact` wrote there."""
    return (Path(directory) / WEIGHTS).is_file()


def read_compact(directory: str | os.PathLike) -> tuple[RunConfig, Tokenizer | None, Params]:
    """What `save_compact` wrote. Raises InputError for a missing, damaged or foreign file."""
    directory = Path(directory)
    run = run_config(read_json_object(directory / CONFIG))
    return run, read_tokenizer(directory), read_weights(directory / WEIGHTS, run.model)
