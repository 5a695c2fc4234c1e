"""This library's own model format: a directory with safetensors weights, config and tokenizer.

It stores either all weights, or the nonzero ones and where they are.
"""

import dataclasses
import json
import math
import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import safetensors.numpy

from sparse_jax.files import read_json_object, user_path, write_whole
from sparse_jax.inputs import InputError, from_mapping
from sparse_jax.model.config import ModelConfig
from sparse_jax.model.forward import Params, param_shapes
from sparse_jax.models.leaves import Place, Source, read_leaves
from sparse_jax.models.model import Model
from sparse_jax.models.room import require_room_to_load
from sparse_jax.models.safetensors_file import read_safetensors
from sparse_jax.models.tokenizer_files import read_tokenizer, write_tokenizer
from sparse_jax.trees import map_named, named_leaves

WEIGHTS, CONFIG = "weights.safetensors", "config.json"
# Of the config, there if the model has some, and if it is a control.
SPECIAL, CONTROL = "special_tokens", "control"
NONZERO, DENSE = "sparse_jax.compact.1", "sparse_jax.dense.1"
# How many entries can be numbered.
MOST_PLACES = 2**32


def pack_weights(params: Params, dense: bool = False, about: Mapping[str, str] | None = None) -> bytes:
    """The content of a file from which `read_weights` restores `params` exactly.

    dense: store each leaf as one tensor of its name. Otherwise each leaf becomes two: `<name>.values`, its
    nonzero float32 entries in C order, and where they are, in the smaller of two ways: `<name>.nonzero`, one
    bit per entry, packed into bytes, or `<name>.places`, their numbers as uint32 (below 1/32 nonzero). For a
    dense leaf this costs one bit more per entry; a leaf with 5 % nonzero entries takes a tenth of its size.
    about: metadata beside the format.
    """
    leaves = {name: np.asarray(leaf, np.float32) for name, leaf in named_leaves(params).items()}
    if dense:
        whole = {name: np.ascontiguousarray(leaf) for name, leaf in leaves.items()}
        return safetensors.numpy.save(whole, {**(about or {}), "format": DENSE})
    tensors: dict[str, np.ndarray] = {}
    for name, leaf in leaves.items():
        flat = leaf.reshape(-1)
        nonzero = flat.view(np.uint32) != 0  # -0.0 counts as a value: every bit is restored
        if 32 * np.count_nonzero(nonzero) < flat.size <= MOST_PLACES:
            tensors[f"{name}.places"] = np.flatnonzero(nonzero).astype(np.uint32)
        else:
            tensors[f"{name}.nonzero"] = np.packbits(nonzero)
        tensors[f"{name}.values"] = flat[nonzero]
    return safetensors.numpy.save(tensors, {**(about or {}), "format": NONZERO})


def read_weights(path: str | os.PathLike, config: ModelConfig) -> Params:
    """The float32 NumPy leaves from a file of `pack_weights`, of either kind.

    Raises InputError for a missing, damaged or foreign file, or one that does not fit `config` or memory.
    """
    path = user_path(path)
    found_tensors, metadata = read_safetensors(path)
    tensors: dict[str, Source] = {**found_tensors}
    found = metadata.get("format")
    if found == DENSE:
        leaves = named_leaves(param_shapes(config))
        wanted = {name: Place(leaf.shape, (name,), None, False) for name, leaf in leaves.items()}
        return read_leaves(tensors, wanted, config, path)
    if found != NONZERO:
        raise InputError(f"model: {path} has format {found!r}; valid: {NONZERO!r}, {DENSE!r}")
    return _read_nonzero(tensors, config, path)


def _read_nonzero(tensors: dict[str, Source], config: ModelConfig, path: Path) -> Params:
    require_room_to_load(config, path)
    params = map_named(
        lambda name, leaf: unpacked(tensors, name, leaf.shape, f"model: {path}"), param_shapes(config)
    )
    if tensors:
        raise InputError(f"model: {path} contains {min(tensors)}, which its config does not have")
    return params


def unpacked(tensors: dict[str, Source], name: str, shape: tuple[int, ...], origin: str) -> np.ndarray:
    """Takes the leaf of this name, as `pack_weights` stores it, out of `tensors`.

    Raises InputError beginning with `origin` if it is missing, or not of this shape.
    """
    size = math.prod(shape)
    bits, places, values = (_taken(tensors, f"{name}.{part}") for part in ("nonzero", "places", "values"))
    fits = (bits is None) != (places is None) and (bits is None or bits.size == -(-size // 8))
    if values is None or not fits:
        raise InputError(f"{origin} has no {name} of shape {shape}; valid: its own config")
    if bits is not None:
        places = np.flatnonzero(np.unpackbits(bits, count=size))
    assert places is not None
    if values.size != places.size:
        raise InputError(f"{origin} has {values.size} values of {name}; valid: one for each of {places.size}")
    if places.size and places.max() >= size:
        raise InputError(f"{origin} has index {places.max()} in {name}; valid: below its size {size}")
    flat = np.zeros(size, np.float32)
    flat[places] = values
    return flat.reshape(shape)


def _taken(tensors: dict[str, Source], name: str) -> np.ndarray | None:
    tensor = tensors.pop(name, None)
    return None if tensor is None else tensor.read()


def is_compact(directory: str | os.PathLike) -> bool:
    """Whether `directory` was written by `write_compact`."""
    return (user_path(directory) / WEIGHTS).is_file()


def read_compact(directory: str | os.PathLike) -> Model:
    """Reads what `write_compact` wrote. Raises InputError for a missing, damaged or unknown file."""
    directory = user_path(directory)
    run = read_json_object(directory / CONFIG)
    config = model_section(run, directory / CONFIG)
    params = read_weights(directory / WEIGHTS, config)
    special = run.pop(SPECIAL, {})
    if not isinstance(special, dict):
        raise InputError(f"{directory / CONFIG}: {SPECIAL}: {special!r} is not valid; valid: an object")
    control = run.pop(CONTROL, "")
    if not isinstance(control, str):
        raise InputError(f"{directory / CONFIG}: {CONTROL}: {control!r} is not valid; valid: a text")
    # a model that was made elsewhere has no other section
    known = run if len(run) > 1 else None
    return Model(config, params, read_tokenizer(directory), str(directory), known, special, control)


def write_compact(model: Model, directory: str | os.PathLike, dense: bool = False) -> None:
    """Writes a model that `read_compact` restores exactly; each file is written atomically.

    dense: all weights, not only the nonzero ones; larger, but any reader of safetensors can use them.
    """
    directory = user_path(directory)
    sections: dict[str, object] = {**(model.run or {}), "model": dataclasses.asdict(model.config)}
    if model.special_tokens:
        sections[SPECIAL] = {**model.special_tokens}
    if model.control:
        sections[CONTROL] = model.control
    write_whole(directory / CONFIG, json.dumps(sections, indent=1, sort_keys=True, allow_nan=False))
    write_tokenizer(model.tokenizer, directory)
    write_whole(directory / WEIGHTS, pack_weights(model.params, dense))


def model_section(run: Mapping[str, object], origin: Path) -> ModelConfig:
    """The architecture in the config of a run. Raises InputError if there is none."""
    section = run.get("model")
    if not isinstance(section, Mapping):
        raise InputError(f"{origin}: no section 'model'; valid: the config of a model or of a training run")
    return from_mapping(ModelConfig, section, "model")
