"""How a run lies on a mesh, and what moves between devices for the sake of sparsity: counts."""

import json
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sparse_jax.inputs import InputError
from sparse_jax.training.config import TrainConfig
from sparse_jax.training.sharding import (
    batch_sharding,
    make_mesh,
    on_host,
    own_rows,
    spread_batch,
    state_sharding,
)
from tests.training import collectives as program

MESHES = ("2x4x1", "1x8x1", "1x2x4", "2x2x2")


@pytest.fixture(scope="module")
def moved(server):
    """By mesh; made in a process of its own, since the number of simulated devices is fixed at its start."""
    started = server.start("tests.training.collectives", *MESHES)
    status, (out, err) = started.wait(timeout=300), started.printed()
    assert status == 0, err
    return dict(zip(MESHES, json.loads(out)))


@pytest.mark.parametrize("mesh", MESHES)
def test_top_k_moves_only_counts_between_devices(moved, mesh):
    found, config = moved[mesh], program.CONFIG
    assert found["abs_top_k"] == []
    assert found["update"], "matrices are split, so counts must be added up"
    # a number for each channel at most, for the channels' minimum; the share of a matrix has 8 times as many
    most = config.n_layers * config.d_mlp
    for kind, entries in found["update"]:
        assert kind == "all-reduce" and entries <= most, (kind, entries)


@pytest.mark.parametrize("mesh", MESHES)
def test_abs_top_k_of_channels_that_are_split_moves_counts(moved, mesh):
    data, fsdp, tensor = map(int, mesh.split("x"))
    assert bool(moved[mesh]["abs_top_k_of_split_channels"]) == (tensor > 1)
    share = math.prod(program.ACTIVATIONS) // (data * fsdp * tensor)
    for kind, entries in moved[mesh]["abs_top_k_of_split_channels"]:
        assert kind == "all-reduce" and 8 * entries <= share, (kind, entries)


def test_collectives_of_a_program_are_seen():
    class Compiled:
        def as_text(self):
            both = "%a = (s32[2,64]{1,0}, f32[]) all-reduce(%b, %c)\n%d = f32[8]{0} all-gather-start(%e)"
            return both + "\n%f = f32[] add(%g)"

    assert program.collectives(Compiled()) == [("all-reduce", 128), ("all-reduce", 1), ("all-gather", 8)]


@pytest.mark.parametrize(
    ("shape", "whole"), [((-1, 1, 1), (4, 1, 1)), ((1, -1, 2), (1, 2, 2)), ((2, 1, -1), (2, 1, 2))]
)
def test_one_axis_may_be_what_is_left(shape, whole):
    assert tuple(make_mesh(*shape).shape.values()) == whole


@pytest.mark.parametrize("shape", [(1, 1, 1), (3, -1, 1), (2, 2, 2), (-1, 8, 1)])
def test_a_mesh_of_other_than_all_devices_is_refused(shape):
    said = f"{' x '.join(map(str, shape))} is not the number of devices; valid: a product of 4, or -1"
    with pytest.raises(InputError, match=said):
        make_mesh(*shape)


def test_two_axes_cannot_both_be_what_is_left():
    with pytest.raises(InputError, match="training.mesh_data, mesh_tensor: -1 .* -1 for at most one axis"):
        TrainConfig(mesh_data=-1, mesh_tensor=-1)


def test_a_vocabulary_is_split_where_it_can_be_and_heads_must_be():
    mesh = make_mesh(1, 2, 2)

    def place(name, *shape):
        tree = {name: jax.ShapeDtypeStruct(shape, jnp.float32)}
        return state_sharding(mesh, tree)[name].shard_shape(shape)

    assert place("embed/kernel", 10, 8) == (5, 4)
    assert place("opt_state/mu/embed/kernel", 11, 8) == (11, 4)
    assert place("unembed/kernel", 8, 10) == (4, 5)
    assert place("layers/attn/out/kernel", 3, 6, 8) == (3, 3, 4)
    assert place("bigram/kernel", 10, 10) == (10, 5)
    assert place("opt_state/nu/bigram/current/kernel", 10, 8) == (5, 4)
    assert place("bigram/next/kernel", 8, 11) == (4, 11)
    with pytest.raises(InputError, match="training.mesh_fsdp: 2 does not divide the 3 rows of bigram/next"):
        place("bigram/next/kernel", 3, 10)
    assert place("layers/norm/scale", 3, 8) == (3, 8)
    with pytest.raises(
        InputError, match="training.mesh_tensor: 2 does not divide the 3 .*attn/sink; valid: a"
    ):
        place("layers/attn/sink", 2, 3)


@pytest.mark.parametrize("mesh", [(4, 1, 1), (2, 1, 2), (1, 1, 4)])
def test_a_batch_comes_together_from_the_rows_of_each_process(mesh):
    """In this one process all rows; that each process has few of them is seen in test_processes."""
    sharding, batch = batch_sharding(make_mesh(*mesh)), np.arange(24).reshape(8, 3)
    rows = own_rows(sharding, 8)
    assert rows.tolist() == list(range(8))
    spread = spread_batch(sharding, 8, batch[rows])
    np.testing.assert_array_equal(spread, batch)
    assert {shard.data.shape for shard in spread.addressable_shards} == {(8 // (mesh[0] * mesh[1]), 3)}
    whole = on_host({"batch": spread})["batch"]
    assert isinstance(whole, np.ndarray)
    np.testing.assert_array_equal(whole, batch)
