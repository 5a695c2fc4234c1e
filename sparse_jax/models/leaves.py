"""Maps tensors of another format to the leaves of our parameter tree and back, by a table.

A row maps a tensor to one leaf, or to several concatenated along their last axis (such as q, k and v in one
matrix), transposed if so marked; a row whose name contains {layer} stands for one tensor per layer.
"""

import dataclasses
from collections.abc import Iterable, Iterator, Mapping
from typing import Protocol

import jax.numpy as jnp
import numpy as np

from sparse_jax.inputs import InputError, nearest
from sparse_jax.model.config import ModelConfig
from sparse_jax.model.forward import Params, param_shapes
from sparse_jax.models.room import require_room_to_load
from sparse_jax.trees import map_named, named_leaves

# The first three are exact in float32; the last is rounded to it.
WEIGHT_DTYPES = [np.dtype(kind) for kind in (np.float32, np.float16, jnp.bfloat16, np.float64)]


@dataclasses.dataclass(frozen=True)
class Row:
    """One line of a table."""

    tensor: str
    leaves: tuple[str, ...]
    transposed: bool = False


@dataclasses.dataclass(frozen=True)
class Place:
    """The part of our tree that a tensor of another format corresponds to, and its required shape."""

    shape: tuple[int, ...]
    leaves: tuple[str, ...]
    layer: int | None
    transposed: bool


@dataclasses.dataclass(frozen=True)
class Given:
    """An array that stands in for a tensor in a file."""

    values: np.ndarray

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the array."""
        return self.values.shape

    @property
    def dtype(self) -> np.dtype:
        """Of its entries."""
        return self.values.dtype

    def read(self) -> np.ndarray:
        """The array."""
        return self.values


class Source(Protocol):
    """A tensor that is read on demand."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the tensor."""

    @property
    def dtype(self) -> np.dtype:
        """Of its entries."""

    def read(self) -> np.ndarray:
        """The entries, of `shape`."""


def places(rows: Iterable[Row], config: ModelConfig) -> dict[str, Place]:
    """All places of a model of `config`, by tensor name. Raises InputError for a leaf without a tensor."""
    shapes = {name: leaf.shape for name, leaf in named_leaves(param_shapes(config)).items()}
    found = {}
    for row in rows:
        if row.leaves[0] not in shapes:
            continue
        layered = "{layer}" in row.tensor
        for layer in range(config.n_layers) if layered else (None,):
            shape = shapes[row.leaves[0]][layered:]
            shape = (*shape[:-1], shape[-1] * len(row.leaves))
            shape = shape[::-1] if row.transposed else shape
            found[row.tensor.format(layer=layer)] = Place(shape, row.leaves, layer, row.transposed)
    covered = {leaf for place in found.values() for leaf in place.leaves}
    for name in shapes:
        if name not in covered:
            raise InputError(f"model: this format has no tensor for {name}")
    return found


def check_names(found: Mapping[str, Source], wanted: Mapping[str, Place], origin: object) -> None:
    """Raises InputError unless exactly the wanted tensors are there, each a float tensor of its shape."""
    for name, place in wanted.items():
        if name not in found:
            raise InputError(f"{origin}: the tensor {name!r} is missing; valid: one of shape {place.shape}")
    for name, tensor in found.items():
        if name not in wanted:
            raise InputError(f"{origin}: {name!r} is not in the config; {nearest(str(name), wanted)}")
        if tuple(tensor.shape) != wanted[name].shape:
            valid = f"{wanted[name].shape} by the config"
            raise InputError(f"{origin}: {name!r} has shape {tuple(tensor.shape)}; valid: {valid}")
        if tensor.dtype not in WEIGHT_DTYPES:
            raise InputError(
                f"{origin}: {name!r} has dtype {tensor.dtype}; valid: float32, float16, bfloat16 or float64"
            )


def read_leaves(
    found: Mapping[str, Source], wanted: Mapping[str, Place], config: ModelConfig, origin: object
) -> Params:
    """The parameters as float32 NumPy arrays; tensors are read into memory one at a time.

    float64 is rounded. Raises InputError, naming the tensor and `origin`, for what is missing, left over, of
    another shape or dtype, or not finite in float32, and if memory cannot hold them.
    """
    check_names(found, wanted, origin)
    require_room_to_load(config, origin)
    params = map_named(lambda _, leaf: np.empty(leaf.shape, np.float32), param_shapes(config))
    leaves = named_leaves(params)
    for name, place in wanted.items():
        values = finite(_float32(found[name].read()), name, origin)
        values = values.T if place.transposed else values
        for leaf, part in zip(place.leaves, np.split(values, len(place.leaves), axis=-1)):
            leaves[leaf][... if place.layer is None else place.layer] = part
    return params


def _float32(values: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore"):  # what is too large is infinite, and refused as such
        return np.asarray(values, np.float32)


def finite(values: np.ndarray, name: str, origin: object) -> np.ndarray:
    """Returns `values`. Raises InputError if any of them is not finite."""
    bad = values.size - np.count_nonzero(np.isfinite(values))
    if bad:
        raise InputError(f"{origin}: {name!r} contains {bad} values that are not finite in float32")
    return values


def drop_copy(found: dict[str, Source], copy: str, original: str, origin: object) -> None:
    """Leaves `original` alone of two tensors that a tied embedding makes one; a file may have either or both.

    Raises InputError if they differ.
    """
    if copy in found and original not in found:
        found[original] = found.pop(copy)
    if copy not in found:
        return
    wanted = finite(found[original].read(), original, origin)
    if not np.array_equal(found.pop(copy).read(), wanted):
        raise InputError(
            f"{origin}: {copy!r} differs from {original!r}; valid: equal, because the config ties them"
        )


def write_leaves(
    params: Params, wanted: Mapping[str, Place], config: ModelConfig
) -> Iterator[tuple[str, np.ndarray]]:
    """Every tensor by name, one at a time. Raises InputError if `params` are not of a model of `config`."""
    leaves = named_leaves(params)
    shapes = {name: leaf.shape for name, leaf in named_leaves(param_shapes(config)).items()}
    if {name: tuple(leaf.shape) for name, leaf in leaves.items()} != shapes:
        raise InputError("model: its parameters are not those of its config")
    for name, place in wanted.items():
        at = ... if place.layer is None else place.layer
        parts = [np.asarray(leaves[leaf][at]) for leaf in place.leaves]
        values = parts[0] if len(parts) == 1 else np.concatenate(parts, axis=-1)
        yield name, values.T if place.transposed else values
