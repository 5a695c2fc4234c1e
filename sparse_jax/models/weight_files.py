"""Tensors by name, whatever files they lie in: one or shards with an index, safetensors or torch.save."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sparse_jax.files import read_json_object
from sparse_jax.inputs import InputError
from sparse_jax.models.leaves import Source
from sparse_jax.models.safetensors_file import read_safetensors
from sparse_jax.models.torch_reader import read_torch_file

SAFETENSORS, TORCH, INDEX = "model.safetensors", "pytorch_model.bin", ".index.json"
SHARDS = ("model-*.safetensors", "pytorch_model-*.bin")
# Where a checkpoint keeps the tensors that it is about, beside other things.
NESTED = ("model", "state_dict", "model_state_dict")
# Parts of a tensor's name that only say what a network was wrapped in: data parallelism, torch.compile, the
# class of the released upload.
WRAPPERS = ("module", "_orig_mod", "circuit_model")


def has_weights(directory: Path) -> bool:
    """Whether weights under the names of Hugging Face are there, or at least a part of them."""
    names = (SAFETENSORS, SAFETENSORS + INDEX, TORCH, TORCH + INDEX)
    return any((directory / name).is_file() for name in names) or any(
        path.is_file() for pattern in SHARDS for path in directory.glob(pattern)
    )


def read_weights_of(directory: Path) -> tuple[dict[str, Source], Path]:
    """Tensors by name, without WRAPPERS, and the file that errors should name.

    The first of these is read, as transformers does: model.safetensors, its shards, pytorch_model.bin, its
    shards. An index beside a single file is left over if its shards are gone, and is not read. Raises
    InputError if its shards are there too, and for files that are missing, damaged or contradict the index.
    """
    for name in (SAFETENSORS, TORCH):
        single, index = directory / name, directory / (name + INDEX)
        if single.is_file():
            _refuse_shards_beside(single, index)
            return unwrapped(read_tensors(single), single), single
        if index.is_file():
            return unwrapped(_read_shards(index), index), index
    valid = f"{SAFETENSORS} or {TORCH}, or shards with {SAFETENSORS + INDEX} or {TORCH + INDEX}"
    raise InputError(f"weights not found in {directory}; valid: {valid}")


def read_tensors(path: Path) -> dict[str, Source]:
    """The tensors of one file under the names that they have there.

    A checkpoint that keeps them in a dict of its own (NESTED) is opened. Raises InputError for a file that is
    missing or damaged, and for what is not a dict of tensors by name.
    """
    if path.suffix == ".safetensors":
        return {**read_safetensors(path)[0]}
    found = read_torch_file(path)
    for _ in NESTED:  # not forever: a pickle can contain itself
        if not isinstance(found, dict) or any(hasattr(value, "read") for value in found.values()):
            break
        inside = [name for name in NESTED if isinstance(found.get(name), dict)]
        if len(inside) > 1:
            raise InputError(f"{path}: contains {' and '.join(inside)}; valid: one dict of tensors by name")
        found = found[inside[0]] if inside else found
    if not isinstance(found, dict):
        raise InputError(f"{path}: is not a dict of tensors by name")
    for name, tensor in found.items():
        if not isinstance(name, str) or not hasattr(tensor, "read"):
            raise InputError(f"{path}: {name!r} is not a tensor; valid: a dict of tensors by name")
    return found


def unwrapped(tensors: Mapping[str, Source], origin: Path) -> dict[str, Source]:
    """The same tensors, WRAPPERS taken out of their names. Raises InputError if two names become one."""
    found: dict[str, Source] = {}
    first: dict[str, str] = {}
    for name, tensor in tensors.items():
        plain = ".".join(part for part in name.split(".") if part not in WRAPPERS)
        if plain in found:
            raise InputError(
                f"{origin}: {first[plain]!r} and {name!r} are the same tensor; valid: one of them"
            )
        found[plain], first[plain] = tensor, name
    return found


def _refuse_shards_beside(single: Path, index: Path) -> None:
    if not index.is_file():
        return
    others = sorted({file for file in _index(index).values() if file != single.name})
    for file in others:
        if (index.parent / file).exists():
            raise InputError(f"{single}: {index.name} and {file} lie beside it; valid: one file, or shards")


def _index(path: Path) -> dict[str, str]:
    """Tensor name -> file of its shard, which lies beside the index."""
    files: Any = read_json_object(path).get("weight_map")
    if not isinstance(files, dict) or not files:
        raise InputError(f"{path}: weight_map not found; valid: an object of file names by tensor name")
    for name, file in files.items():
        if not isinstance(file, str) or Path(file).name != file:
            raise InputError(f"{path}: weight_map[{name!r}]: {file!r} is not valid; valid: a file beside it")
    return files


def _read_shards(index: Path) -> dict[str, Source]:
    files = _index(index)
    found: dict[str, Source] = {}
    for file in sorted(set(files.values())):
        shard = index.parent / file
        if not shard.is_file():
            raise InputError(
                f"{file} not found in {index.parent}; valid: every shard that {index.name} names"
            )
        tensors = read_tensors(shard)
        for name in tensors:
            if files.get(name) != file:
                raise InputError(f"{index}: {name!r} lies in {file}, and the index says {files.get(name)!r}")
        found.update(tensors)
    for name, file in files.items():
        if name not in found:
            raise InputError(f"{index}: the tensor {name!r} is missing in {file}; valid: what the index says")
    return found
