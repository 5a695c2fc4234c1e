"""The project's own file of weights, safetensors: every entry, or the nonzero ones and a bit for each."""

import os
from pathlib import Path

import numpy as np
import safetensors.numpy

from sparse_jax.inputs import InputError
from sparse_jax.interop.leaves import Place, Source, read_leaves
from sparse_jax.interop.safetensors_file import read_safetensors
from sparse_jax.model.config import ModelConfig
from sparse_jax.model.forward import Params, param_shapes
from sparse_jax.trees import map_named, named_leaves

NONZERO, DENSE = "sparse_jax.compact.1", "sparse_jax.dense.1"


def pack_weights(params: Params, dense: bool = False) -> bytes:
    """The content of a file that `read_weights` gives back exactly.

    dense: a leaf is one tensor of its own name. Otherwise it is two: `<name>.nonzero`, one bit an entry in C
    order, packed into bytes, and `<name>.values`, float32, the entries whose bit is set. A dense leaf costs a
    bit an entry more than it must, a leaf at 5 % nonzero takes a tenth of its size.
    """
    leaves = {name: np.asarray(leaf, np.float32) for name, leaf in named_leaves(params).items()}
    if dense:
        whole = {name: np.ascontiguousarray(leaf) for name, leaf in leaves.items()}
        return safetensors.numpy.save(whole, {"format": DENSE})
    tensors = {}
    for name, leaf in leaves.items():
        flat = leaf.reshape(-1)
        nonzero = flat.view(np.uint32) != 0  # -0.0 is a value: every bit comes back
        tensors[f"{name}.nonzero"] = np.packbits(nonzero)
        tensors[f"{name}.values"] = flat[nonzero]
    return safetensors.numpy.save(tensors, {"format": NONZERO})


def read_weights(path: str | os.PathLike, config: ModelConfig) -> Params:
    """The float32 NumPy leaves of a file of `pack_weights`, of either kind.

    Raises InputError for a missing, damaged or foreign file, or one that does not fit `config`.
    """
    path = Path(path)
    tensors, metadata = read_safetensors(path)
    found = metadata.get("format")
    if found == DENSE:
        leaves = named_leaves(param_shapes(config))
        wanted = {name: Place(leaf.shape, (name,), None, False) for name, leaf in leaves.items()}
        return read_leaves(tensors, wanted, config, path)
    if found != NONZERO:
        raise InputError(f"model: {path} has format {found!r}; valid: {NONZERO!r}, {DENSE!r}")
    return _read_nonzero(dict(tensors), config, path)


def _read_nonzero(tensors: dict[str, Source], config: ModelConfig, path: Path) -> Params:
    def leaf(name: str, shape) -> np.ndarray:
        size = int(np.prod(shape.shape))
        bits, values = (_taken(tensors, f"{name}.{part}") for part in ("nonzero", "values"))
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


def _taken(tensors: dict[str, Source], name: str) -> np.ndarray | None:
    tensor = tensors.pop(name, None)
    return None if tensor is None else tensor.read()
