"""The mesh, and a table from leaf names to partition specs.

There are three axes: "data" splits the batch; "fsdp" also splits the batch, and splits parameters (with their
moments and masks) along the model's width; "tensor" splits heads, neurons and vocabulary, and the products
with them. Small leaves are replicated.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax.experimental import mesh_utils, multihost_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from sparse_jax.inputs import InputError
from sparse_jax.trees import first_match, map_named

AXES = ("data", "fsdp", "tensor")
BATCH = PartitionSpec(("data", "fsdp"))
# "tensor" if it divides the vocabulary size, which is rarely chosen for its divisors; otherwise replicated.
VOCABULARY = "vocabulary"

# Matched against the end of a leaf's name, so that moments and masks follow their parameter.
RULES = (
    (r"(.*/)?layers/(attn/[qkv]|mlp/up)/kernel", (None, "fsdp", "tensor")),
    (r"(.*/)?layers/(attn/out|mlp/down)/kernel", (None, "tensor", "fsdp")),
    (r"(.*/)?layers/(attn/[qkv]|mlp/up)/bias", (None, "tensor")),
    (r"(.*/)?layers/attn/sink", (None, "tensor")),
    (r"(.*/)?embed/kernel", (VOCABULARY, "fsdp")),
    (r"(.*/)?unembed/kernel", ("fsdp", VOCABULARY)),
    (r"(.*/)?bigram/kernel", (None, VOCABULARY)),
    (r"(.*/)?bigram/current/kernel", (VOCABULARY, "fsdp")),
    (r"(.*/)?bigram/next/kernel", ("fsdp", VOCABULARY)),
    (r"(.*/)?bridges/(encoder|decoder)/kernel", (None, "fsdp", None)),
    (r".*", ()),
)


def make_mesh(data: int, fsdp: int, tensor: int = 1, devices: Sequence[jax.Device] | None = None) -> Mesh:
    """A mesh of all `devices` (default: those of all processes); one axis may be -1.

    Devices next to each other along "tensor" are close in the hardware. Raises InputError if the axes do not
    multiply to the number of devices.
    """
    devices = devices or jax.devices()
    given, count = (data, fsdp, tensor), len(devices)
    fixed = math.prod(size for size in given if size != -1)
    shape = tuple(count // fixed if size == -1 else size for size in given)
    if math.prod(shape) != count:
        raise InputError(
            f"training.mesh_data, mesh_fsdp, mesh_tensor: {data} x {fsdp} x {tensor} is not the number of "
            f"devices; valid: a product of {count}, or -1 for one of them"
        )
    grid = mesh_utils.create_device_mesh(shape, devices, allow_split_physical_axes=True)
    return Mesh(grid, AXES, axis_types=(AxisType.Auto,) * len(AXES))


def state_sharding(mesh: Mesh, shapes: object) -> Any:
    """A NamedSharding for every leaf of a state (given as arrays or ShapeDtypeStructs).

    Raises InputError if a width is not divisible by the mesh axis that splits it.
    """

    def place(name: str, leaf: jax.ShapeDtypeStruct) -> NamedSharding:
        axes = [_axis(mesh, axis, size) for axis, size in zip(first_match(RULES, name), leaf.shape)]
        for axis, size in zip(axes, leaf.shape):
            if axis is not None and size % mesh.shape[axis]:
                raise InputError(
                    f"training.mesh_{axis}: {mesh.shape[axis]} does not divide the {size} rows of {name}; "
                    f"valid: a divisor of {size}"
                )
        return NamedSharding(mesh, PartitionSpec(*axes))

    return map_named(place, shapes)


def _axis(mesh: Mesh, axis: str | None, size: int) -> str | None:
    if axis != VOCABULARY:
        return axis
    return "tensor" if size % mesh.shape["tensor"] == 0 else None


def check_batch(mesh: Mesh, batch_size: int, accumulate: int = 1) -> None:
    """Raises InputError unless each of `accumulate` microbatches divides evenly over the devices."""
    multiple = batch_multiple(mesh.shape, accumulate)
    if batch_size % multiple:
        parts = f" in {accumulate} microbatches" if accumulate > 1 else ""
        raise InputError(
            f"training.batch_size: {batch_size} does not divide over {multiple // accumulate} devices "
            f"(data x fsdp){parts}; valid: a multiple of {multiple}"
        )


def batch_multiple(axes: Mapping[str, int], accumulate: int = 1) -> int:
    """The number that the batch size must be a multiple of, on a mesh with axes of these sizes."""
    return axes["data"] * axes["fsdp"] * accumulate


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """The sharding of a batch [B, ...]: split over data and fsdp; devices along tensor hold the same rows."""
    return NamedSharding(mesh, BATCH)


def own_rows(sharding: NamedSharding, batch_size: int) -> np.ndarray:
    """Which rows of a batch the devices of this process hold, in ascending order."""
    places = sharding.addressable_devices_indices_map((batch_size,)).values()
    return np.unique(np.concatenate([np.arange(batch_size)[place] for place in places]))


def spread_batch(sharding: NamedSharding, batch_size: int, own: np.ndarray) -> jax.Array:
    """The global batch. own: the rows [n, ...] of this process, in the order of `own_rows`."""
    return jax.make_array_from_process_local_data(sharding, own, (batch_size, *own.shape[1:]))


def stream_sharding(rows: NamedSharding) -> tuple[NamedSharding, ...]:
    """Shardings of the residual stream for a batch sharded as `rows`; empty on one device.

    They are applied one after the other to the output of the embedding, and the last one also in all layers.
    Without them, the compiler splits the stream along the width, as the parameters are, and copies all of it
    to every device to change between the two.
    """
    axes = rows.mesh.shape
    if axes["data"] > 1 and axes["fsdp"] > 1:
        return NamedSharding(rows.mesh, PartitionSpec("data", None, "fsdp")), rows
    return (rows,) if rows.mesh.size > 1 else ()


def placed(shapes: object, shardings: object) -> Any:
    """`shapes` as ShapeDtypeStructs with `shardings` (a matching tree, or a single one)."""

    def place(leaf: jax.ShapeDtypeStruct, sharding: NamedSharding) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)

    return jax.tree.map(place, shapes, jax.tree.broadcast(shardings, shapes))


def on_host(tree: object) -> Any:
    """Gathers arrays sharded over all processes as complete NumPy arrays in every process.

    One leaf at a time, so that no device holds more than one complete leaf.
    """
    return jax.tree.map(lambda leaf: multihost_utils.process_allgather(leaf, tiled=True), tree)
