"""A flat .npy file of token ids that is written piece by piece and read memory-mapped."""

import hashlib
from pathlib import Path
from types import TracebackType

import numpy as np


class TokenWriter:
    """Appends 1-D arrays of token ids to the file at `path`, as uint16 where `vocab_size` allows it.

    `count` is the number of ids so far and `digest` the hash of their bytes. To be used in a `with`.
    """

    def __init__(self, path: Path, vocab_size: int):
        self._dtype = np.dtype("<u2" if vocab_size <= 2**16 else "<u4")
        self._hash = hashlib.sha256(self._dtype.str.encode())
        self._file = path.open("wb")
        self.count = 0
        self._write_header()

    def write(self, tokens: np.ndarray) -> None:
        """Appends `tokens`, integers below `vocab_size`."""
        content = tokens.astype(self._dtype).tobytes()
        self._file.write(content)
        self._hash.update(content)
        self.count += len(tokens)

    @property
    def digest(self) -> str:
        """A hash of everything written."""
        return self._hash.hexdigest()

    def __enter__(self) -> "TokenWriter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self._file.seek(0)
                self._write_header()
        finally:
            self._file.close()

    def _write_header(self) -> None:
        """NumPy pads a header for its first axis to grow, so the final one takes the same room."""
        shape = {"descr": self._dtype.str, "fortran_order": False, "shape": (self.count,)}
        np.lib.format.write_array_header_1_0(self._file, shape)


def read_tokens(path: Path) -> np.ndarray:
    """The ids [tokens] at `path`, read from the disk only where they are looked at."""
    return np.load(path, mmap_mode="r")
