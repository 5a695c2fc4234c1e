"""A trained model as a small folder: its nonzero weights as safetensors, config and tokenizer beside them."""

import json
import os
from pathlib import Path

import numpy as np
import safetensors
import safetensors.numpy
from tokenizers import Tokenizer

from sparse_jax.files import write_whole
from sparse_jax.inputs import InputError
from sparse_jax.model.config import ModelConfig
from sparse_jax.model.forward import Params, param_shapes
from sparse_jax.training.config import RunConfig, run_config
from sparse_jax.trees import map_named, named_leaves

WEIGHTS, CONFIG, TOKENIZER = "weights.safetensors", "config.json", "tokenizer.json"
FORMAT = "sparse_jax.compact.1"


def save_compact(params: Params, run: RunConfig, tokenizer: Tokenizer, directory: str | os.PathLike) -> None:
    """Writes a model of `run` that `read_compact` gives back exactly, each file whole or not at all.

    A leaf is two tensors: `<name>.nonzero`, one bit an entry in C order, packed into bytes, and
    `<name>.values`, float32, the entries whose bit is set. A dense leaf costs a bit an entry more than it
    must, a leaf at 5 % nonzero takes a tenth of its size.
    """
    tensors = {}
    for name, leaf in named_leaves(params).items():
        flat = np.asarray(leaf, np.float32).reshape(-1)
        nonzero = flat != 0
        tensors[f"{name}.nonzero"] = np.packbits(nonzero)
        tensors[f"{name}.values"] = flat[nonzero]
    directory = Path(directory)
    write_whole(directory / CONFIG, run.to_json())
    write_whole(directory / TOKENIZER, tokenizer.to_str())
    write_whole(directory / WEIGHTS, safetensors.numpy.save(tensors, {"format": FORMAT}))


def is_compact(directory: str | os.PathLike) -> bool:
    """Whether `save_compact` wrote there."""
    return (Path(directory) / WEIGHTS).is_file()


def read_compact(directory: str | os.PathLike) -> tuple[RunConfig, Tokenizer, Params]:
    """What `save_compact` wrote. Raises InputError for a missing, damaged or foreign file."""
    directory = Path(directory)
    run = run_config(json.loads(_text(directory / CONFIG)))
    try:
        tokenizer = Tokenizer.from_str(_text(directory / TOKENIZER))
    except Exception as error:  # the library raises bare Exceptions
        raise InputError(f"model: {directory / TOKENIZER} is no tokenizer ({error})") from None
    return run, tokenizer, _read_params(directory / WEIGHTS, run.model)


def _text(path: Path) -> str:
    try:
        text = path.read_text(encoding="utf-8")
        json.loads(text)
    except (OSError, ValueError) as error:
        raise InputError(
            f"model: {path} cannot be read ({error}); valid: a folder that sparse_jax wrote"
        ) from None
    return text


def _read_params(path: Path, config: ModelConfig) -> Params:
    try:
        with safetensors.safe_open(path, "numpy") as file:
            found = (file.metadata() or {}).get("format")
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, safetensors.SafetensorError) as error:
        raise InputError(f"model: {path} cannot be read ({error}); valid: a complete file") from None
    if found != FORMAT:
        raise InputError(f"model: {path} has format {found!r}; valid: {FORMAT!r}")

    def leaf(name: str, shape) -> np.ndarray:
        size = int(np.prod(shape.shape))
        bits, values = (tensors.pop(f"{name}.{part}", None) for part in ("nonzero", "values"))
        if bits is None or values is None or bits.size != -(-size // 8):
            raise InputError(f"model: {path} has no {name} of shape {shape.shape}; valid: its own config")
        nonzero = np.unpackbits(bits, count=size).astype(bool)
        if values.size != np.count_nonzero(nonzero):
            raise InputError(f"model: {path} holds {values.size} values of {name}; valid: one a set bit")
        flat = np.zeros(size, np.float32)
        flat[nonzero] = values
        return flat.reshape(shape.shape)

    params = map_named(leaf, param_shapes(config))
    if tensors:
        raise InputError(f"model: {path} holds {min(tensors)}, which its config has no leaf for")
    return params
