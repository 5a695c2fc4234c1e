"""Writes `.pt` files of float32 tensors without PyTorch, for `torch.load(weights_only=True)`."""

import os
import struct
import zipfile
from collections.abc import Iterable

import numpy as np

ALIGNMENT = 64
FOLDER = "final_model"
EMPTY_ORDERED_DICT = b"ccollections\nOrderedDict\n)R"


def write_torch_file(path: str | os.PathLike, tensors: Iterable[tuple[str, np.ndarray]]) -> None:
    """Writes named arrays, each as float32; only one at a time is held in memory.

    The file is not written atomically, so write it into a new directory.
    """
    pickle = [b"\x80\x02", EMPTY_ORDERED_DICT, b"("]
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for key, (name, array) in enumerate(tensors):
            array = np.ascontiguousarray(array, "<f4").reshape(array.shape)
            _add(archive, f"data/{key}", array.reshape(-1).view(np.uint8).data)
            pickle += [_text(name), _tensor(key, array.shape)]
        pickle += [b"u."]
        _add(archive, "data.pkl", b"".join(pickle))
        _add(archive, "byteorder", b"little")
        _add(archive, "version", b"3\n")


def _add(archive: zipfile.ZipFile, name: str, content: bytes | memoryview) -> None:
    """Stores `content` at an offset that is a multiple of ALIGNMENT, so that it can be memory-mapped."""
    entry = zipfile.ZipInfo(f"{FOLDER}/{name}")
    entry.file_size = len(content)
    begin = archive.start_dir + 30 + len(entry.filename) + 4
    padding = -begin % ALIGNMENT
    entry.extra = b"FB" + struct.pack("<H", padding) + bytes(padding)
    with archive.open(entry, "w") as file:
        file.write(content)


def _tensor(key: int, shape: tuple[int, ...]) -> bytes:
    """The call that rebuilds a contiguous tensor from the storage `key`."""
    strides: list[int] = []
    count = 1
    for size in reversed(shape):
        strides.insert(0, count)
        count *= size
    storage = [_text("storage"), b"ctorch\nFloatStorage\n", _text(str(key)), _text("cpu"), _whole(count)]
    arguments = [_tuple(storage), b"Q", _whole(0), _tuple(map(_whole, shape)), _tuple(map(_whole, strides))]
    return b"ctorch._utils\n_rebuild_tensor_v2\n" + _tuple([*arguments, b"\x89", EMPTY_ORDERED_DICT]) + b"R"


def _tuple(items: Iterable[bytes]) -> bytes:
    return b"(" + b"".join(items) + b"t"


def _text(value: str) -> bytes:
    data = value.encode()
    return b"X" + struct.pack("<I", len(data)) + data


def _whole(value: int) -> bytes:
    if value < 2**31:
        return b"J" + struct.pack("<i", value)
    return b"\x8a\x08" + struct.pack("<q", value)
