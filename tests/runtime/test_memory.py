"""How many lanes fit, by hand; and what the compiler and the machine say."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sparse_jax.inputs import InputError
from sparse_jax.runtime import memory


def test_lanes_that_fit_by_hand():
    # a fixed part of 20 and 30 a lane
    assert [memory.lanes_that_fit(50, 80, free) for free in (50, 79, 80, 200, 229, 230)] == [1, 1, 2, 6, 6, 7]
    with pytest.raises(
        InputError, match="pruning: one lane needs 1.5 GB and 1 GB are free on each device; valid"
    ):
        memory.lanes_that_fit(1_500_000_000, 1_600_000_000, 1_000_000_000)


def test_what_the_compiler_refuses_fits_nowhere():
    assert memory.lanes_that_fit(50, math.inf, 80) == 1
    assert memory.said_of(50, math.inf) == "two do not fit"
    assert memory.said_of(5e9, 8e9) == "a lane needs about 3 GB"
    with pytest.raises(InputError, match="pruning: one lane needs more than there is"):
        memory.lanes_that_fit(math.inf, math.inf, 80)


def test_needed_bytes_are_those_of_arguments_results_and_temporaries():
    compiled = jax.jit(lambda x: jnp.sort(x) + 1).lower(jax.ShapeDtypeStruct((1000,), jnp.float32)).compile()
    assert 8000 <= memory.needed_bytes(compiled) < 20_000


def test_free_memory_is_shared_by_the_devices_of_a_cpu():
    devices = jax.devices()
    assert 0 < memory.free_bytes(devices) < memory.free_bytes(devices[:1]) < 1e15


class Accelerator:
    platform = "gpu"

    def __init__(self, used):
        self.used = used

    def memory_stats(self):
        return {"bytes_limit": 1000, "bytes_in_use": self.used}


def test_the_fullest_accelerator_decides():
    assert memory.free_bytes([Accelerator(100), Accelerator(400)]) == int(memory.SHARE * 600)


def test_memory_that_is_there_is_that_of_the_smallest_accelerator_or_of_the_machine():
    class Silent(Accelerator):
        def memory_stats(self):
            return None

    assert memory.whole_bytes([Accelerator(100), Accelerator(900)]) == 1000
    assert memory.whole_bytes([Silent(0)]) == math.inf
    devices = jax.devices()
    assert memory.whole_bytes(devices) * len(devices) == memory.whole_on_host() >= memory.free_on_host() > 0


def test_a_container_is_no_larger_than_its_limit(tmp_path, monkeypatch):
    monkeypatch.setattr(memory, "_CGROUP", tmp_path)
    machine = memory.whole_on_host()
    for said, found in {"max": machine, "1000": 1000, str(10**18): machine}.items():
        (tmp_path / "memory.max").write_text(said + "\n")
        (tmp_path / "memory.current").write_text("400\n")
        assert memory.whole_on_host() == found
    (tmp_path / "memory.max").write_text("1000\n")
    assert memory.free_on_host() == 600


@pytest.mark.several_devices
def test_bytes_held_on_each_device_by_hand():
    mesh = jax.sharding.Mesh(np.array(jax.devices()[:2]), ("half",))
    split = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("half"))
    whole = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
    tree = [jax.ShapeDtypeStruct((10, 3), jnp.float32, sharding=split)]
    assert memory.held_bytes(tree) == 4 * 15
    tree.append(jax.ShapeDtypeStruct((7,), jnp.bool_, sharding=whole))
    assert memory.held_bytes(tree) == 4 * 15 + 7
