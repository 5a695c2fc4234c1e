"""The same numbers on every mesh: training with annealing and AbsTopK, evaluation, lanes of gates."""

from types import SimpleNamespace

import pytest

from experiments.bench import meshes
from experiments.bench.meshes import compare, run
from sparse_jax.inputs import InputError


@pytest.fixture(scope="module")
def one():
    return run(1)


@pytest.mark.slow
@pytest.mark.parametrize(("devices", "shapes"), [(2, 3), (4, 6), (8, 10)])
def test_every_mesh_of_some_devices_gives_the_numbers_of_one(one, devices, shapes):
    found = run(devices)
    lanes = found.pop("lanes")
    assert compare(lanes, one["lanes"])["gates"] < 1e-5
    assert len(found) == shapes
    for mesh, arrays in found.items():
        row = compare(arrays, one["1x1x1"])
        assert row["loss"] < 1e-5 and row["evaluation"] < 1e-4, (mesh, row)
        assert row["parameters"] < 1e-4 and row["masks"] == 0, (mesh, row)


@pytest.mark.parametrize("given", ["two", "-1", "0", "1.5"])
def test_a_wrong_number_of_devices_is_refused_before_anything_runs(monkeypatch, given):
    monkeypatch.setattr(meshes, "DEVICES", SimpleNamespace(value=["1", given]))
    monkeypatch.setattr(meshes, "run", lambda devices: pytest.fail("something ran"))
    with pytest.raises(InputError, match=f"--devices: '{given}' is not valid; valid: whole numbers"):
        meshes.main()
