"""Stores circuits and searches, and finds them again by a hash of their inputs."""

import dataclasses
import os
from pathlib import Path

from sparse_jax.circuits.applied import values_hash
from sparse_jax.circuits.gates import Gates
from sparse_jax.circuits.graph import Circuit, load_circuit
from sparse_jax.files import user_path
from sparse_jax.inputs import InputError
from sparse_jax.models.means import load_means, save_means
from sparse_jax.pruning.trials import JOURNAL


class Store:
    """A directory of circuits as JSON, with ablation values and the journals of searches beside them.

    A circuit is identified by the identity in its provenance; the file name is only for people. Existing
    files are never overwritten. Without a directory, circuits are kept in memory only.
    """

    def __init__(self, directory: str | os.PathLike | None):
        self.directory = None if directory is None else user_path(directory, "directory")
        # by identity, then by the name of the task
        self._paths: dict[str, dict[str, Path]] = {}
        self._made: dict[str, dict[str, Circuit]] = {}
        for path in sorted(self.directory.glob("*.json")) if self.directory else ():
            try:
                about = load_circuit(path).provenance
            except InputError:
                continue  # somebody else's file
            identity, task = about.get("identity"), about.get("task")
            if isinstance(identity, str) and isinstance(task, str):
                self._paths.setdefault(identity, {})[task] = path

    def circuit(self, identity: str, task: str) -> Circuit | None:
        """The circuit with this identity, or None; under another name if there is none for `task`."""
        made, paths = self._made.get(identity, {}), self._paths.get(identity, {})
        if task not in made and task in paths:
            return load_circuit(paths[task])
        if made:
            return made.get(task, next(iter(made.values())))
        return load_circuit(next(iter(paths.values()))) if paths else None

    def keep(self, circuit: Circuit, name: str) -> Circuit:
        """Writes it to `<name>.json` or, if that exists, to `<name>-<identity>.json`.

        Returns it as it is read from there, with its folder.
        """
        identity = str(circuit.provenance["identity"])
        if self.directory is not None:
            path = self.directory / f"{name}.json"
            if path.exists():
                path = self.directory / f"{name}-{identity}.json"
            circuit.save(path)
            circuit = dataclasses.replace(circuit, folder=str(self.directory))
        self._made.setdefault(identity, {})[str(circuit.provenance["task"])] = circuit
        return circuit

    def keep_values(self, values: Gates, model: str) -> None:
        """Writes `means.npz` with the fingerprint `model`, but not over a file of another model."""
        if self.directory is None:
            return
        path = self.directory / "means.npz"
        if path.exists():
            try:
                if values_hash(load_means(path, model)) == values_hash(values):
                    return
            except InputError:
                pass  # another model's means, or no means at all: keep it
            path = self.directory / f"means-{values_hash(values)}.npz"
        save_means(values, path, model)

    def search(self, name: str) -> Path | None:
        """The path for files of a search; `name` contains a hash of its inputs. None without a directory."""
        return None if self.directory is None else self.directory / "search" / name


def search_of(circuit: Circuit) -> Path | None:
    """The folder of the search that found the circuit, if it is beside its file, as `Store` puts it.

    It is known by a hash of what was searched, which the circuit keeps; names do not matter.
    """
    found = circuit.provenance.get("searched")
    if not (circuit.folder and found):
        return None
    beside = sorted((user_path(circuit.folder) / "search").glob(f"*-{found}"))
    return next((path for path in beside if (path / JOURNAL).is_file()), None)
