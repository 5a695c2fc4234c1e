"""Saves unfinished lanes to disk, so that a killed run can resume."""

import io
import os
import time

import jax
import numpy as np

from sparse_jax.files import read_arrays, user_path, write_whole
from sparse_jax.inputs import InputError

# The least time between two saves: writing large states would take longer than the steps between.
SECONDS = 20.0


class LaneFile:
    """Keeps the host arrays of all lanes in one npz file at `path`; with None nothing is kept."""

    def __init__(self, path: str | os.PathLike | None, identity: str):
        self._path, self._identity = user_path(path) if path else None, identity
        self._written = time.monotonic()

    def load(self, arrays: object) -> object:
        """The saved arrays, in the structure of `arrays`; `arrays` themselves if nothing is saved yet.

        Raises InputError if the file is damaged or belongs to other lanes.
        """
        if self._path is None or not self._path.exists():
            return arrays
        leaves, structure = jax.tree.flatten(arrays)
        try:
            file = read_arrays(self._path)
            identity = str(file["identity"])
            saved = [file[str(i)] for i in range(len(leaves))] if identity == self._identity else None
        except (OSError, ValueError, KeyError) as error:
            raise InputError(f"{self._path}: cannot be read ({error})") from None
        if saved is None:
            raise InputError(
                f"{self._path}: contains other lanes; valid: a path of its own for every set of lanes"
            )
        return jax.tree.unflatten(structure, saved)

    @property
    def due(self) -> bool:
        """Whether enough time has passed to save again."""
        return self._path is not None and time.monotonic() - self._written >= SECONDS

    def save(self, arrays: object) -> None:
        """Writes the arrays atomically."""
        if self._path is None:
            return
        buffer = io.BytesIO()
        leaves = {str(i): leaf for i, leaf in enumerate(jax.tree.leaves(arrays))}
        np.savez(buffer, identity=self._identity, **leaves)
        write_whole(self._path, buffer.getvalue())
        self._written = time.monotonic()
