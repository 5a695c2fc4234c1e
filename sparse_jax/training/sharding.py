"""The mesh, and one table from leaf names to partition specs.

Two axes: "data" splits the batch; "fsdp" splits the batch too, and the parameters with everything of
their shape (moments, masks). What is small is kept whole on every device.
"""

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from sparse_jax.inputs import InputError
from sparse_jax.trees import first_match, map_named

BATCH = PartitionSpec(("data", "fsdp"))

# Matched against the end of a leaf's name, so that moments and masks follow their parameter.
RULES = (
    (r"(.*/)?layers/(attn/[qkv]|mlp/up)/kernel", PartitionSpec(None, "fsdp", None)),
    (r"(.*/)?layers/(attn/out|mlp/down)/kernel", PartitionSpec(None, None, "fsdp")),
    (r"(.*/)?embed/kernel", PartitionSpec(None, "fsdp")),
    (r"(.*/)?unembed/kernel", PartitionSpec("fsdp", None)),
    (r".*", PartitionSpec()),
)


def make_mesh(data: int, fsdp: int, devices: list[jax.Device] | None = None) -> Mesh:
    """A mesh of all `devices` (default: every one there is); one axis may be -1.

    Raises InputError if the axes do not multiply to the number of devices.
    """
    devices = devices or jax.devices()
    count = len(devices)
    fixed = {"data": data, "fsdp": fsdp}
    for name, other in (("data", fsdp), ("fsdp", data)):
        if fixed[name] == -1:
            fixed[name] = count // other if count % other == 0 else 0
    if fixed["data"] * fixed["fsdp"] != count:
        raise InputError(
            f"training.mesh_data, training.mesh_fsdp: {data} x {fsdp} is not the number of devices; "
            f"valid: a product of {count}, or -1 for one of them"
        )
    grid = np.asarray(devices).reshape(fixed["data"], fixed["fsdp"])
    return Mesh(grid, ("data", "fsdp"), axis_types=(AxisType.Auto, AxisType.Auto))


def state_sharding(mesh: Mesh, shapes: object) -> object:
    """A NamedSharding for every leaf of a state (given as arrays or ShapeDtypeStructs).

    Raises InputError if a width does not divide by the axis that splits it.
    """

    def place(name: str, leaf: jax.ShapeDtypeStruct) -> NamedSharding:
        spec = first_match(RULES, name)
        for size, axis in zip(leaf.shape, spec):
            if axis is not None and size % mesh.shape[axis]:
                raise InputError(
                    f"training.mesh_fsdp: {mesh.shape[axis]} does not divide the {size} rows of {name}; "
                    f"valid: a divisor of {size}"
                )
        return NamedSharding(mesh, spec)

    return map_named(place, shapes)


def check_batch(mesh: Mesh, batch_size: int) -> None:
    """Raises InputError unless the batch divides evenly over the devices."""
    if batch_size % mesh.size:
        raise InputError(
            f"training.batch_size: {batch_size} does not divide over {mesh.size} devices; "
            f"valid: a multiple of {mesh.size}"
        )


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """How a batch [B, ...] lies: split over both axes."""
    return NamedSharding(mesh, BATCH)
