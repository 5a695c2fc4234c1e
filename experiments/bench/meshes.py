"""Compares results on every mesh of 1, 2, 4 and 8 devices with those on one device. One JSON line each.

python -m experiments.bench.meshes

It simulates CPU devices, with one process for each number of devices. `loss` and `evaluation` are the largest
relative differences to one device, `parameters` and `gates` the largest absolute ones; `masks` counts weights
that are zero in only one of the two. Numbers differ by rounding, and by more only where it decides a tie of
activations, which this text does not have.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from experiments import command
from experiments.flag_types import names_flag
from sparse_jax.inputs import require

DEVICES = names_flag("devices", ["1", "2", "4", "8"], "numbers of devices, the first of which is 1")


def run(devices: int, shapes: Sequence[str] = ()) -> dict[str, dict[str, np.ndarray]]:
    """The results of `mesh_run` on a number of devices: arrays by name, by mesh ("lanes": the pruning)."""
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "found.npz"
        arguments = [sys.executable, "-m", "experiments.bench.mesh_run", str(devices), str(output), *shapes]
        subprocess.run(arguments, check=True, env={**os.environ, "JAX_PLATFORMS": "cpu"})
        found = {}
        for name, array in np.load(output).items():
            mesh, _, rest = name.partition("/")
            found.setdefault(mesh, {})[rest] = array
    return found


def compare(found: dict[str, np.ndarray], one: dict[str, np.ndarray]) -> dict[str, float]:
    """Largest differences between a mesh and one device."""
    row = {}
    if "losses" in found:
        row["last_loss"] = float(found["losses"][-1])
    for column, name in (("loss", "losses"), ("evaluation", "evaluation")):
        if name in found:
            row[column] = float(np.max(np.abs(found[name] / one[name] - 1)))
    for column, folder in (("parameters", "params/"), ("gates", "gates/")):
        differences = [np.max(np.abs(found[name] - one[name])) for name in one if name.startswith(folder)]
        row |= {column: float(max(differences))} if differences else {}
    if "losses" in found:
        weights = [name for name in one if name.startswith("params/")]
        row["masks"] = int(sum(np.sum((found[name] != 0) != (one[name] != 0)) for name in weights))
    return row


def main() -> None:
    """Prints the lines as JSON."""
    for devices in DEVICES.value:
        require(devices.isdecimal() and int(devices) > 0, "--devices", devices, "whole numbers such as 1,2,4")
    one = run(1)
    for devices in map(int, DEVICES.value):
        for mesh, found in (one if devices == 1 else run(devices)).items():
            reference = one["lanes" if mesh == "lanes" else "1x1x1"]
            shown = {
                k: float(f"{v:.3g}") if k != "last_loss" else v for k, v in compare(found, reference).items()
            }
            print(json.dumps({"devices": devices, "mesh": mesh, **shown}), flush=True)


if __name__ == "__main__":
    command.run(main)
