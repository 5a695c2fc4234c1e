"""Names of machines: what is known of each, and what is said of the others."""

import importlib.util
import math

import jax
import pytest

from sparse_jax.inputs import InputError
from sparse_jax.planning.devices import planned_devices
from sparse_jax.planning.topologies import find_topology, known_topologies


@pytest.mark.parametrize(
    ("name", "platform", "devices", "shape"),
    [
        ("v5e-64", "tpu", 64, "v5e:8x8"),
        ("v6e-256", "tpu", 256, "v6e:16x16"),
        ("v5p-128", "tpu", 64, "v5p:4x4x4"),  # counted in cores, two a chip
        ("gpu:h200x8", "gpu", 8, "h200"),
        ("cpu:8", "cpu", 8, None),
    ],
)
def test_a_name_says_how_many_devices(name, platform, devices, shape):
    found = find_topology(name)
    assert (found.platform, found.devices, found.shape) == (platform, devices, shape)


def test_every_known_name_is_found_and_a_slice_has_as_many_chips_as_its_shape():
    for name in known_topologies():
        found = find_topology(name.replace("N", "3"))
        if found.platform == "tpu":
            assert math.prod(map(int, found.shape.split(":")[1].split("x"))) == found.devices


@pytest.mark.parametrize(
    ("name", "gigabytes"),
    [("v5e-64", 50), ("v5e-256", 100), ("v6e-64", 100), ("v6e-256", 200), ("v5p-64", 100), ("v5p-128", 200)],
)
def test_a_slice_without_links_from_end_to_end_passes_on_half(name, gigabytes):
    # one way: v5e 400 GB/s both ways over 4 links, v6e 800 over 4, v5p 1200 over 6
    assert find_topology(name).chip.link_bandwidth == gigabytes * 1e9


@pytest.mark.parametrize(("name", "gib"), [("gpu:h100x1", 0.75 * 79.1), ("gpu:h200x1", 0.75 * 139.8)])
def test_of_a_gpu_jax_takes_three_quarters(name, gib):
    assert find_topology(name).chip.memory == pytest.approx(gib * 2**30)


@pytest.mark.parametrize("name", ["v5e-65", "v5e", "v5p-2", "gpu:h200x9", "gpu:b100x8", "cpu:0", "cpu", ""])
def test_an_unknown_name_is_refused_with_the_known(name):
    with pytest.raises(InputError, match=f"--topology: '{name}' is unknown; .*cpu:N.*gpu:h200x8.*v5e-64"):
        find_topology(name)


@pytest.mark.parametrize(
    ("name", "package", "extra"),
    [("v5e-64", "libtpu", "plan"), ("gpu:h200x8", "jax_cuda13_plugin", "plan-gpu")],
)
def test_without_its_compiler_the_extra_is_named(monkeypatch, name, package, extra):
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(InputError, match=rf"{name} .* {package}.*pip install '\.\[{extra}\]'"):
        planned_devices(find_topology(name))


def test_simulated_devices_are_as_many_as_asked_for():
    jax.devices()  # started, so that no other test gets fewer
    assert planned_devices(find_topology("cpu:3")) == jax.devices("cpu")[:3]
    with pytest.raises(InputError, match="cpu:5 needs 5 simulated devices"):
        planned_devices(find_topology("cpu:5"))
