"""Safetensors files as named tensors that are read on demand."""

import dataclasses
import os

import jax.numpy as jnp
import numpy as np
import safetensors

from sparse_jax.files import user_path
from sparse_jax.inputs import InputError

DTYPES = {"F32": np.float32, "F16": np.float16, "BF16": jnp.bfloat16, "F64": np.float64, "U8": np.uint8}


@dataclasses.dataclass(frozen=True)
class FileTensor:
    """A tensor in an open file; dtypes that weights never have are given as object."""

    file: safetensors.safe_open
    name: str

    @property
    def shape(self) -> tuple[int, ...]:
        """As the file's header says."""
        return tuple(self.file.get_slice(self.name).get_shape())

    @property
    def dtype(self) -> np.dtype:
        """As the file's header says."""
        return np.dtype(DTYPES.get(self.file.get_slice(self.name).get_dtype(), np.object_))

    def read(self) -> np.ndarray:
        """The entries, copied from the file."""
        return self.file.get_tensor(self.name)


def read_safetensors(path: str | os.PathLike) -> tuple[dict[str, FileTensor], dict[str, str]]:
    """Tensors by name, and the file's metadata. Raises InputError for a missing or damaged file."""
    path = user_path(path)
    try:
        file = safetensors.safe_open(path, "numpy")
        return {name: FileTensor(file, name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118
    except (OSError, safetensors.SafetensorError) as error:
        raise InputError(f"{path}: cannot be read ({error}); valid: a complete safetensors file") from None
