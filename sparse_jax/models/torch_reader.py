"""Reads `.pt` files without PyTorch: a zip of plain numbers with a pickle that says where each tensor is.

Nothing in the file is executed, and numbers are memory-mapped when a tensor is read.
"""

import dataclasses
import os
import struct
import zipfile
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from sparse_jax.files import user_path
from sparse_jax.inputs import InputError
from sparse_jax.models.pickles import read_pickle

STORAGES = {
    "torch FloatStorage": np.dtype(np.float32),
    "torch DoubleStorage": np.dtype(np.float64),
    "torch HalfStorage": np.dtype(np.float16),
    "torch BFloat16Storage": np.dtype(jnp.bfloat16),
    "torch LongStorage": np.dtype(np.int64),
    "torch IntStorage": np.dtype(np.int32),
    "torch ShortStorage": np.dtype(np.int16),
    "torch CharStorage": np.dtype(np.int8),
    "torch ByteStorage": np.dtype(np.uint8),
    "torch BoolStorage": np.dtype(np.bool_),
}
# How files begin that torch.save wrote before it wrote zip files.
BEFORE_ZIP = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
OLDER = "written in the format before PyTorch 1.6; valid: a zip file, torch.save(torch.load(path), path)"


@dataclasses.dataclass(frozen=True, eq=False)
class Storage:
    """`count` numbers in a row from byte `start` of the file; checksum: 0 where the file has none."""

    path: Path
    start: int
    count: int
    dtype: np.dtype
    checksum: int

    def read(self) -> np.ndarray:
        """The numbers, memory-mapped. Raises InputError if their checksum is wrong."""
        if self.count == 0:
            return np.zeros(0, self.dtype)
        size = self.count * self.dtype.itemsize
        content = np.memmap(self.path, np.uint8, "r", self.start, size)
        if self.checksum and zlib.crc32(content.data) != self.checksum:
            raise InputError(f"{self.path}: damaged: wrong checksum of {size} bytes from {self.start}")
        return content.view(np.ndarray).view(self.dtype)


@dataclasses.dataclass(frozen=True, eq=False)
class StoredTensor:
    """A tensor that is still on the disk; strides count entries of its storage."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    @property
    def dtype(self) -> np.dtype:
        """Of its entries."""
        return self.storage.dtype

    def read(self) -> np.ndarray:
        """The entries as a read-only view of the mapped file."""
        numbers = self.storage.read()[self.offset :]
        strides = [step * self.dtype.itemsize for step in self.strides]
        return np.lib.stride_tricks.as_strided(numbers, self.shape, strides, writeable=False)


def read_torch_file(path: str | os.PathLike) -> Any:
    """What `torch.save` wrote at `path`, with a StoredTensor for every tensor.

    Raises InputError for a file that is missing, truncated or damaged, or that holds more than dicts, lists,
    tuples, numbers, strings and dense tensors. A file that was written without checksums (CRC 0, as
    `torch.serialization.set_crc32_options(False)` leaves them) is read, but damaged numbers go unnoticed.
    """
    path = user_path(path)
    try:
        with path.open("rb") as file:
            if file.read(len(BEFORE_ZIP)) == BEFORE_ZIP:
                raise InputError(f"{path}: {OLDER}")
            with zipfile.ZipFile(file) as archive:
                return _Archive(path, archive, file).load()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error})") from None
    except (zipfile.BadZipFile, struct.error, EOFError, RuntimeError) as error:
        raise InputError(f"{path}: not a complete zip file of torch.save ({error})") from None


class _Archive:
    def __init__(self, path: Path, archive: zipfile.ZipFile, file):
        self._path, self._file = path, file
        self._entries = {entry.filename: entry for entry in archive.infolist()}
        self._size = path.stat().st_size

    def load(self) -> object:
        found = [name for name in self._entries if name.split("/")[1:] == ["data.pkl"]]
        if len(found) != 1:
            raise InputError(
                f"{self._path}: found {len(found)} entries named data.pkl; valid: one, as torch.save writes"
            )
        self._folder = found[0].split("/")[0]
        order = f"{self._folder}/byteorder"
        if order in self._entries and self._content(order) != b"little":
            raise InputError(f"{self._path}: written with another byte order; valid: little")
        names = {
            **STORAGES,
            "collections OrderedDict": _mapping,
            "torch Size": tuple,
            "torch._utils _rebuild_tensor_v2": _tensor,
            "torch._utils _rebuild_parameter": _parameter,
        }
        return read_pickle(self._content(found[0]), names, self._storage, self._path)

    def _content(self, name: str) -> bytes:
        entry = self._entries[name]
        self._file.seek(self._start(name))
        content = self._file.read(entry.file_size)
        if entry.CRC and zlib.crc32(content) != entry.CRC:
            raise InputError(f"{self._path}: damaged: wrong checksum of {name!r}")
        return content

    def _storage(self, identity: Any) -> Storage:
        kind, dtype, key, _, count = identity
        if kind != "storage" or not isinstance(dtype, np.dtype) or not isinstance(key, str):
            raise InputError("a persistent id is not a storage; valid: tensors only")
        name = f"{self._folder}/data/{key}"
        if name not in self._entries:
            raise InputError(f"the numbers {name!r} are missing; valid: a complete file")
        entry = self._entries[name]
        if entry.file_size != count * dtype.itemsize:
            raise InputError(f"{name!r} has {entry.file_size} bytes; valid: {count} numbers of {dtype}")
        return Storage(self._path, self._start(name), count, dtype, entry.CRC)

    def _start(self, name: str) -> int:
        """The offset of an entry's content; the local header gives its own length."""
        entry = self._entries[name]
        self._file.seek(entry.header_offset)
        signature, *_, name_length, extra_length = struct.unpack("<4s22sHH", self._file.read(30))
        start = entry.header_offset + 30 + name_length + extra_length
        if signature != b"PK\x03\x04" or start + entry.file_size > self._size:
            raise InputError(f"{self._path}: {name!r} is not where the file says; valid: a complete file")
        if entry.compress_type != zipfile.ZIP_STORED:
            raise InputError(f"{self._path}: {name!r} is compressed; valid: as torch.save writes")
        return start


def _mapping(items: Iterable = ()) -> dict:
    return dict(items)


def _tensor(storage, offset, shape, strides, requires_grad=False, hooks=None, metadata=None) -> StoredTensor:
    whole = (*shape, *strides, offset)
    if not isinstance(storage, Storage) or not all(type(n) is int and n >= 0 for n in whole):
        raise InputError("a tensor without storage, or with a size that is not a whole number")
    last = offset + sum((size - 1) * step for size, step in zip(shape, strides, strict=True))
    if 0 not in shape and last >= storage.count:
        raise InputError(f"a tensor of shape {tuple(shape)} reaches beyond its {storage.count} numbers")
    return StoredTensor(storage, offset, tuple(shape), tuple(strides))


def _parameter(tensor, requires_grad=False, hooks=None) -> StoredTensor:
    return tensor
