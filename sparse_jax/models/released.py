"""Released models: a directory with `beeg_config.json` and `final_model.pt`, to ours and back."""

import dataclasses
import itertools
import json
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from sparse_jax.data.tokenizer import SPLIT_PATTERN
from sparse_jax.files import read_json_object, user_path, write_whole
from sparse_jax.inputs import InputError
from sparse_jax.model.config import ModelConfig
from sparse_jax.models.leaves import Given, Row, drop_copy, finite, places, read_leaves, write_leaves
from sparse_jax.models.model import Model
from sparse_jax.models.released_config import read_released_config, write_released_config
from sparse_jax.models.tokenizer_files import read_tokenizer, write_tokenizer
from sparse_jax.models.torch_writer import write_torch_file
from sparse_jax.models.weight_files import read_tensors, unwrapped
from sparse_jax.trees import named_leaves

CONFIG, WEIGHTS = "beeg_config.json", "final_model.pt"
EMBEDDING, UNEMBEDDING = "transformer.wte.weight", "lm_head.weight"
POSITIONS, LOGIT_BIAS = "transformer.wpe.weight", "final_logits_bias"
CAUSAL_MASK = "transformer.h.{layer}.attn.bias"

_LAYER = "transformer.h.{layer}"
_QKV = ("layers/attn/q", "layers/attn/k", "layers/attn/v")
ROWS = (
    Row(EMBEDDING, ("embed/kernel",)),
    Row(POSITIONS, ("position/kernel",)),
    Row(f"{_LAYER}.ln_1.weight", ("layers/attn/norm/scale",)),
    Row(f"{_LAYER}.ln_1.bias", ("layers/attn/norm/bias",)),
    Row(f"{_LAYER}.ln_p1.weight", ("layers/attn/position_norm/scale",)),
    Row(f"{_LAYER}.ln_p1.bias", ("layers/attn/position_norm/bias",)),
    Row(f"{_LAYER}.attn.c_attn.weight", tuple(f"{name}/kernel" for name in _QKV), transposed=True),
    Row(f"{_LAYER}.attn.c_attn.bias", tuple(f"{name}/bias" for name in _QKV)),
    Row(f"{_LAYER}.attn.c_proj.weight", ("layers/attn/out/kernel",), transposed=True),
    Row(f"{_LAYER}.attn.c_proj.bias", ("layers/attn/out/bias",)),
    Row(f"{_LAYER}.attn.attn_imp.sink_logit", ("layers/attn/sink",)),
    Row(f"{_LAYER}.ln_2.weight", ("layers/mlp/norm/scale",)),
    Row(f"{_LAYER}.ln_2.bias", ("layers/mlp/norm/bias",)),
    Row(f"{_LAYER}.ln_p2.weight", ("layers/mlp/position_norm/scale",)),
    Row(f"{_LAYER}.ln_p2.bias", ("layers/mlp/position_norm/bias",)),
    Row(f"{_LAYER}.mlp.c_fc.weight", ("layers/mlp/up/kernel",), transposed=True),
    Row(f"{_LAYER}.mlp.c_fc.bias", ("layers/mlp/up/bias",)),
    Row(f"{_LAYER}.mlp.c_proj.weight", ("layers/mlp/down/kernel",), transposed=True),
    Row(f"{_LAYER}.mlp.c_proj.bias", ("layers/mlp/down/bias",)),
    Row("transformer.ln_f.weight", ("final_norm/scale",)),
    Row("transformer.ln_f.bias", ("final_norm/bias",)),
    Row(UNEMBEDDING, ("unembed/kernel",), transposed=True),
    Row("bigram_table", ("bigram/kernel",)),
    Row(LOGIT_BIAS, ("logit_bias",)),
)


def is_released(directory: str | os.PathLike) -> bool:
    """Whether a released model is there."""
    return (user_path(directory) / CONFIG).is_file()


def read_released(directory: str | os.PathLike) -> Model:
    """The model of a released directory, and its tokenizer if one lies there too.

    That is a `tokenizer.json`, or `encoder.json` and `vocab.bpe` as they were released. A table of positions
    that is all zero is none. Raises InputError for a file that is missing or damaged, a config that is not
    supported, and tensors that are not those of the config.
    """
    directory = user_path(directory)
    config = read_released_config(read_json_object(directory / CONFIG))
    tokenizer = read_tokenizer(directory, SPLIT_PATTERN)
    tensors = unwrapped(read_tensors(directory / WEIGHTS), directory / WEIGHTS)
    model = read_released_tensors(config, tensors, directory / WEIGHTS)
    return dataclasses.replace(model, tokenizer=tokenizer, origin=str(directory))


def read_released_tensors(config: ModelConfig, tensors: dict, origin: Path) -> Model:
    """The model of `config` with tensors under their released names, taken out of the dict `tensors`."""
    tensors.setdefault(LOGIT_BIAS, Given(np.zeros(config.vocab_size, np.float32)))
    _drop_causal_masks(config, tensors, origin)
    if config.tied_embedding:
        drop_copy(tensors, UNEMBEDDING, EMBEDDING, origin)
    if config.positions == "added" and POSITIONS in tensors and _is_zero(config, tensors, origin):
        config = dataclasses.replace(config, positions="none")
        del tensors[POSITIONS]
    return Model(config, read_leaves(tensors, places(ROWS, config), config, origin))


def write_released(model: Model, directory: str | os.PathLike) -> None:
    """Fills a directory that the reference implementation loads with `strict=True`.

    Raises InputError, before anything is written, if the format cannot hold the model.
    """
    config = released_fields(model)
    directory = user_path(directory)
    write_whole(directory / CONFIG, json.dumps(config, indent=1, allow_nan=False))
    write_torch_file(directory / WEIGHTS, released_tensors(model))
    write_tokenizer(model.tokenizer, directory)


def released_fields(model: Model) -> dict[str, object]:
    """What `beeg_config.json` says of a model."""
    return write_released_config(model.config, "tokenizer.json" if model.tokenizer else "none")


def released_tensors(model: Model) -> Iterator[tuple[str, np.ndarray]]:
    """Every tensor of the reference's state dict, one at a time."""
    config = model.config
    wanted = places(ROWS, config)
    extra = []
    if config.positions == "none":
        extra.append((POSITIONS, np.zeros((config.context, config.d_model), np.float32)))
    if config.tied_embedding:
        extra.append((UNEMBEDDING, np.asarray(named_leaves(model.params)["embed/kernel"])))
    return itertools.chain(write_leaves(model.params, wanted, config), extra)


def _is_zero(config: ModelConfig, tensors: dict, origin: Path) -> bool:
    shape = (config.context, config.d_model)
    tensor = tensors[POSITIONS]
    return tuple(tensor.shape) == shape and not finite(tensor.read(), POSITIONS, origin).any()


def _drop_causal_masks(config: ModelConfig, tensors: dict, origin: Path) -> None:
    """Older files carry the mask of every layer; it says nothing, unless it is not causal."""
    shape = (1, 1, config.context, config.context)
    for layer in range(config.n_layers):
        mask = tensors.pop(CAUSAL_MASK.format(layer=layer), None)
        if mask is None:
            continue
        if tuple(mask.shape) != shape or not np.array_equal(mask.read()[0, 0], np.tri(config.context)):
            name = CAUSAL_MASK.format(layer=layer)
            raise InputError(
                f"{origin}: {name!r} is not a causal mask; valid: a lower triangle of ones, {shape}"
            )
