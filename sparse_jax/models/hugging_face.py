"""Directories as Hugging Face lays them out: `config.json`, `model.safetensors`, `tokenizer.json`.

A model that is a GPT-2 is one there too; any other has the names of the released models, which a PyTorch user
can load into the reference implementation's class.
"""

import json
import os
from pathlib import Path

import numpy as np
import safetensors.numpy

from sparse_jax.files import read_json_object, write_whole
from sparse_jax.inputs import require_choice
from sparse_jax.models.gpt2 import is_gpt2, read_gpt2, write_gpt2
from sparse_jax.models.model import Model, read_tokenizer, write_tokenizer
from sparse_jax.models.released import read_released_tensors, released_fields, released_tensors
from sparse_jax.models.released_config import read_released_config
from sparse_jax.models.safetensors_file import read_safetensors

CONFIG, WEIGHTS = "config.json", "model.safetensors"
RELEASED = "circuit_sparsity"
HEADER = {"model_type": RELEASED, "architectures": ["GPT"]}


def is_hugging_face(directory: str | os.PathLike) -> bool:
    """Whether such a directory is there."""
    return (Path(directory) / WEIGHTS).is_file()


def read_hugging_face(directory: str | os.PathLike) -> Model:
    """A GPT-2, or what `write_hugging_face` wrote.

    Raises InputError for another architecture, and for what is missing, damaged, not supported or not of the
    config.
    """
    directory = Path(directory)
    fields, path = read_json_object(directory / CONFIG), directory / WEIGHTS
    kind = fields.get("model_type")
    require_choice("config.model_type", kind, ("gpt2", RELEASED))
    tensors, _ = read_safetensors(path)
    tokenizer = read_tokenizer(directory)
    if kind == "gpt2":
        model = read_gpt2(fields, tensors, path)
        return Model(model.config, model.params, tokenizer)
    config = read_released_config({name: value for name, value in fields.items() if name not in HEADER})
    return read_released_tensors(config, tensors, path, tokenizer)


def write_hugging_face(model: Model, directory: str | os.PathLike) -> None:
    """Fills a directory. Raises InputError, before that, for what neither layout can hold."""
    if is_gpt2(model):
        fields, tensors = write_gpt2(model)
    else:
        fields, tensors = {**HEADER, **released_fields(model)}, dict(released_tensors(model))
    whole = {name: np.ascontiguousarray(value, np.float32) for name, value in tensors.items()}
    directory = Path(directory)
    write_whole(directory / CONFIG, json.dumps(fields, indent=1, allow_nan=False))
    write_whole(directory / WEIGHTS, safetensors.numpy.save(whole, {"format": "pt"}))
    write_tokenizer(model.tokenizer, directory)
