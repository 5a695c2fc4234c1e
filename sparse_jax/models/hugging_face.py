"""Directories as Hugging Face lays them out: `config.json`, weights, and a tokenizer.

A model that is a GPT-2 is one there too; any other has the names of the released models, which a PyTorch user
can load into the reference implementation's class. The released upload is read as well.
"""

import dataclasses
import json
import os
from collections.abc import Mapping

import numpy as np
import safetensors.numpy

from sparse_jax.data.tokenizer import SPLIT_PATTERN
from sparse_jax.files import read_json_object, user_path, write_whole
from sparse_jax.inputs import require_choice
from sparse_jax.models.gpt2 import is_gpt2, read_gpt2, write_gpt2
from sparse_jax.models.model import Model
from sparse_jax.models.released import read_released_tensors, released_fields, released_tensors
from sparse_jax.models.released_config import read_hub_config
from sparse_jax.models.tokenizer_files import (
    read_special_tokens,
    read_tokenizer,
    special_ids,
    write_tokenizer,
    write_tokenizer_config,
)
from sparse_jax.models.weight_files import SAFETENSORS, has_weights, read_weights_of

CONFIG = "config.json"
GPT2, RELEASED, UPLOADED = "gpt2", "circuit_sparsity", "circuitgpt"
HEADER = {"model_type": RELEASED, "architectures": ["GPT"]}


def is_hugging_face(directory: str | os.PathLike) -> bool:
    """Whether such a directory is there."""
    return has_weights(user_path(directory))


def read_hugging_face(directory: str | os.PathLike) -> Model:
    """A GPT-2, the released upload, or what `write_hugging_face` wrote.

    Raises InputError for another architecture, and for what is missing, damaged, not supported or not of the
    config.
    """
    directory = user_path(directory)
    fields = read_json_object(directory / CONFIG)
    gpt2 = _kind(fields) == GPT2
    special = read_special_tokens(directory, fields)
    tokenizer = read_tokenizer(directory, None if gpt2 else SPLIT_PATTERN)
    if gpt2:
        model = read_gpt2(fields, *read_weights_of(directory))
    else:
        config = read_hub_config(fields)
        model = read_released_tensors(config, *read_weights_of(directory))
    return dataclasses.replace(model, tokenizer=tokenizer, origin=str(directory), special_tokens=special)


def _kind(fields: Mapping[str, object]) -> object:
    kind = fields.get("model_type")
    if "afrac" in fields and kind != GPT2:  # a field of no other architecture: the tag may be called anything
        return RELEASED
    require_choice("config.model_type", kind, (GPT2, RELEASED, UPLOADED))
    return kind


def write_hugging_face(model: Model, directory: str | os.PathLike) -> None:
    """Fills a directory. Raises InputError, before that, for what neither layout can hold."""
    if is_gpt2(model):
        fields, tensors = write_gpt2(model)
    else:
        fields, tensors = {**HEADER, **released_fields(model)}, dict(released_tensors(model))
    fields = {**fields, **special_ids(model.special_tokens, model.tokenizer)}
    whole = {name: np.ascontiguousarray(value, np.float32) for name, value in tensors.items()}
    directory = user_path(directory)
    write_whole(directory / CONFIG, json.dumps(fields, indent=1, allow_nan=False))
    write_whole(directory / SAFETENSORS, safetensors.numpy.save(whole, {"format": "pt"}))
    write_tokenizer(model.tokenizer, directory)
    write_tokenizer_config(model.special_tokens, model.tokenizer, model.config.context, directory)
