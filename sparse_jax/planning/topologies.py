"""The machines that can be planned for, with the makers' figures for each device."""

import re
from typing import NamedTuple

from sparse_jax.inputs import InputError, nearest

GIB = 2**30


class Chip(NamedTuple):
    """One kind of device, in bytes, FLOP/s, bytes/s and US dollars an hour.

    memory: what a program may use. peaks: of matrix products by the type of what is multiplied, float32 at
    JAX's default precision (one bfloat16 pass on TPU, TF32 on GPU). link_bandwidth: what a device sends to
    its neighbors in a ring, both ways together. price: on demand, a device.
    """

    memory: int
    peaks: dict[str, float]
    memory_bandwidth: float
    link_bandwidth: float
    price: float


# Of a GPU's memory, unless XLA_PYTHON_CLIENT_MEM_FRACTION says more.
_JAX_TAKES = 0.75
# Memory of TPUs: what the compiler lets a program use (libtpu 0.0.42). Of GPUs: what CUDA says that there is
# (cudaMemGetInfo: 79.1 and 139.8 GiB, a little more or less by driver), less than the 81,559 and 143,771 MiB
# of nvidia-smi, in which is what the driver keeps. Compute and bandwidth: the makers' data sheets
# (cloud.google.com/tpu/docs/v5e, v5p, v6e; NVIDIA's H100 and H200 SXM). A ring on a TPU goes over two of a
# chip's 4 (v5p: 6) links, one to either side, where it closes (`_closes`). Prices: list prices on demand, US
# regions, 2025 (cloud.google.com/tpu/pricing; GPUs: an eighth of Google Cloud's a3-highgpu-8g and
# a3-ultragpu-8g). They change: `--price` says another.
CHIPS = {
    "v5e": Chip(int(15.75 * GIB), {"bfloat16": 197e12, "float32": 197e12}, 819e9, 100e9, 1.20),
    "v5p": Chip(int(95.74 * GIB), {"bfloat16": 459e12, "float32": 459e12}, 2765e9, 200e9, 4.20),
    "v6e": Chip(int(31.25 * GIB), {"bfloat16": 918e12, "float32": 918e12}, 1640e9, 200e9, 2.70),
    "h100": Chip(int(_JAX_TAKES * 79.1 * GIB), {"bfloat16": 989e12, "float32": 495e12}, 3350e9, 450e9, 11.06),
    "h200": Chip(
        int(_JAX_TAKES * 139.8 * GIB), {"bfloat16": 989e12, "float32": 495e12}, 4800e9, 450e9, 10.60
    ),
}

# Shapes by number of chips, as libtpu wants them.
_FLAT = {4: "2x2", 8: "2x4", 16: "4x4", 32: "4x8", 64: "8x8", 128: "8x16", 256: "16x16"}
_CUBES = {
    4: "2x2x1",
    8: "2x2x2",
    16: "2x2x4",
    32: "2x4x4",
    64: "4x4x4",
    128: "4x4x8",
    256: "4x8x8",
    512: "8x8x8",
}
# Shapes, and how Google counts: v5p-128 has 128 cores, which are 64 chips and 64 devices.
_SLICES = {"v5e": (_FLAT, 1), "v6e": (_FLAT, 1), "v5p": (_CUBES, 2)}
_GPUS = ("h100", "h200")
# of one machine, all joined by the same fast links
_MOST_GPUS = 8


class Topology(NamedTuple):
    """So many devices of one kind.

    platform: "tpu", "gpu" or "cpu". chip: None for a CPU, of which nothing is known; in a slice whose rings
    do not close it has half the link_bandwidth. shape: what the compiler knows it by: a TPU slice's shape,
    such as "v5e:8x8"; a GPU's kind.
    """

    name: str
    platform: str
    devices: int
    chip: Chip | None
    shape: str | None = None


def find_topology(name: str, field: str = "--topology") -> Topology:
    """The topology of a name. Raises InputError naming `field` and the known names if it is none of them."""
    slices = _slices()
    if name in slices:
        return slices[name]
    if (match := re.fullmatch(r"cpu:([1-9]\d{0,3})", name)) is not None:
        return Topology(name, "cpu", int(match[1]), None)
    match = re.fullmatch(rf"gpu:({'|'.join(_GPUS)})x([1-9]\d*)", name)
    if match is not None and int(match[2]) <= _MOST_GPUS:
        return Topology(name, "gpu", int(match[2]), CHIPS[match[1]], match[1])
    raise InputError(f"{field}: {name!r} is unknown; {nearest(name, known_topologies())}")


def known_topologies() -> list[str]:
    """All names; N stands for any number."""
    gpus = [f"gpu:{kind}x{count}" for kind in _GPUS for count in (1, 2, 4, _MOST_GPUS)]
    return [*_slices(), *gpus, "cpu:N"]


def _slices() -> dict[str, Topology]:
    found = {}
    for kind, (shapes, count) in _SLICES.items():
        for chips, shape in shapes.items():
            name, chip = f"{kind}-{chips * count}", CHIPS[kind]
            if not _closes(kind, shape):
                # at a chain's ends all comes over one link: it takes twice a ring's time
                chip = chip._replace(link_bandwidth=chip.link_bandwidth / 2)
            found[name] = Topology(name, "tpu", chips, chip, f"{kind}:{shape}")
    return found


def _closes(kind: str, shape: str) -> bool:
    """Whether rows of a slice's chips are joined at their ends.

    v5p from a whole cube on (cloud.google.com/tpu/docs/v5p); v5e and v6e along axes of 16 chips
    (jax-ml.github.io/scaling-book/tpus), here for every row if one axis is such.
    """
    sizes = [int(size) for size in shape.split("x")]
    return min(sizes) >= 4 if kind == "v5p" else 16 in sizes
