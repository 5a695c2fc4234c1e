"""Checkpoints: what is damaged is never taken for whole, what is whole fits any mesh, what is due stays."""

import dataclasses
import functools
import itertools
import json
import os
import random
import shutil
import time
import zlib

import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp
import pytest
from tokenizers import Tokenizer, models

from sparse_jax.inputs import InputError
from sparse_jax.models.workdir import read_params, read_workdir
from sparse_jax.runtime import checkpoint
from sparse_jax.runtime.checksums import checksums
from sparse_jax.runtime.processes import ProcessError
from sparse_jax.training.config import run_config
from sparse_jax.training.optimizer import sparse_optimizer
from sparse_jax.training.resume import Checkpoints
from sparse_jax.training.sharding import make_mesh, placed, state_sharding
from sparse_jax.training.state import Position, new_state
from tests.tiny_run import lean

TOKENIZER = Tokenizer(models.BPE())


def opened(workdir, config, **changed):
    training = dataclasses.replace(config.training, **changed)
    return Checkpoints(workdir, dataclasses.replace(config, training=training), TOKENIZER, "text")


@functools.cache
def fresh(model, optimizer, sparsity):
    transformation = sparse_optimizer(optimizer, sparsity, 8)
    return jax.jit(lambda seed: new_state(model, transformation, seed))


def state_of(config, step):
    """A state with values of its own for every step."""
    state = fresh(config.model, config.optimizer, config.sparsity)(step)
    return state.replace(step=jnp.int32(step))


ONE = make_mesh(1, 1, devices=jax.devices()[:1])


def shapes_on(config, mesh=ONE):
    shapes = jax.eval_shape(lambda: state_of(config, 0))
    return placed(shapes, state_sharding(mesh, shapes))


def position_of(step):
    return Position({"next_index": step}, [(1.0 / 3, float(np.float32(0.1)))], 2)


def save(workdir, config, steps, **changed):
    checkpoints = opened(workdir, config, **changed)
    for step in steps:
        checkpoints.save_state(state_of(config, step), position_of(step))
    checkpoints.close()


def same(a, b):
    return jax.tree.all(jax.tree.map(lambda x, y: bool(np.array_equal(x, y)), a, b))


def restored(workdir, config, mesh=ONE):
    checkpoints = opened(workdir, config)
    try:
        return checkpoints.restore_state(shapes_on(config, mesh))
    finally:
        checkpoints.close()


@pytest.fixture(scope="module")
def config(directory):
    """One for all tests, so that what makes states is compiled once."""
    return run_config(lean(directory))


@pytest.fixture(scope="module")
def two(config, tmp_path_factory):
    """A workdir with checkpoints of the steps 4 and 8, to be copied."""
    workdir = tmp_path_factory.mktemp("two")
    save(workdir, config, (4, 8))
    return workdir


@pytest.fixture
def workdir(two, tmp_path):
    shutil.copytree(two / "checkpoints", tmp_path / "run" / "checkpoints")
    return tmp_path / "run"


def test_a_checkpoint_gives_back_every_bit_on_any_mesh(workdir, config):
    saved = state_of(config, 8)
    for data, fsdp in ((1, 1), (4, 1), (2, 2), (1, 4), (1, 2)):
        mesh = make_mesh(data, fsdp, devices=jax.devices()[: data * fsdp])
        state, position = restored(workdir, config, mesh)
        assert same(state, saved) and position == position_of(8)
        kernel = state.params["layers"]["mlp"]["up"]["kernel"]
        assert kernel.sharding.mesh.devices.size == data * fsdp
        assert kernel.addressable_shards[0].data.shape == (2, 16 // fsdp, 64)


def test_masks_of_an_earlier_evaluation_are_kept_beside_the_states(config, tmp_path):
    masks = jax.tree.map(lambda x: ~np.array(x), optax.tree.get(state_of(config, 3).opt_state, "masks"))
    checkpoints = opened(tmp_path, config)
    for step in (3, 4):
        checkpoints.save_state(state_of(config, step), dataclasses.replace(position_of(step), masks=masks))
    checkpoints.close()
    state, position = restored(tmp_path, config)
    assert same(position.masks, masks) and same(state, state_of(config, 4))
    shutil.rmtree(tmp_path / "checkpoints" / "4" / "masks")
    state, position = restored(tmp_path, config)
    assert same(position.masks, masks) and same(state, state_of(config, 3))
    assert (tmp_path / "checkpoints" / "4.damaged").exists()


def truncate(folder):
    largest = max((folder / "params" / "d").iterdir(), key=lambda path: path.stat().st_size)
    largest.write_bytes(largest.read_bytes()[:100])


def delete_data(folder):
    shutil.rmtree(folder / "optimizer" / "d")


def delete_run(folder):
    shutil.rmtree(folder / "run")


def empty(folder):
    shutil.rmtree(folder)
    folder.mkdir()


def cut_json(folder):
    path = next((folder / "run").glob("m*"))
    path.write_text(path.read_text()[:-20])


@pytest.mark.parametrize("damage", [truncate, delete_data, delete_run, empty, cut_json])
def test_a_damaged_newest_checkpoint_is_set_aside_and_the_one_before_it_used(workdir, config, capfd, damage):
    folder = workdir / "checkpoints"
    damage(folder / "8")
    left = sorted(path.relative_to(folder / "8") for path in (folder / "8").rglob("*"))
    state, position = restored(workdir, config)
    assert same(state, state_of(config, 4)) and position == position_of(4)
    (said,) = capfd.readouterr().err.splitlines()
    assert said.startswith(f"checkpoint: {folder / '8'}")
    assert said.endswith("set aside as 8.damaged, continuing from step 4")
    aside = folder / "8.damaged"
    assert sorted(path.relative_to(aside) for path in aside.rglob("*")) == left

    checkpoints = opened(workdir, config)
    assert checkpoints.latest == 4
    checkpoints.save_state(state_of(config, 8), position_of(8))
    checkpoints.close()
    damage(folder / "8")
    restored(workdir, config)
    assert (folder / "8.damaged_2").exists() and aside.exists()


def test_a_flipped_bit_is_noticed_wherever_it_changes_anything(workdir, config):
    rng = random.Random(0)
    saved, fallbacks = {step: state_of(config, step) for step in (4, 8)}, 0
    files = [path for path in (workdir / "checkpoints" / "8").rglob("*") if path.is_file()]
    # most bytes of the large ones are of arrays; in the others most mean nothing, and names and sizes differ
    arrays = [path for path in files if path.parent.name == "d" and path.stat().st_size > 5000]
    for path in [*rng.sample(files, 6), *itertools.islice(itertools.cycle(arrays), 18)]:
        whole = path.read_bytes()
        place = rng.randrange(len(whole))
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1 << rng.randrange(8)]) + whole[place + 1 :])
        state, position = restored(workdir, config)
        step = int(state.step)
        assert same(state, saved[step]) and position == position_of(step), path
        if step == 4:
            fallbacks += 1
            (workdir / "checkpoints" / "8.damaged").rename(workdir / "checkpoints" / "8")
        path.write_bytes(whole)
    assert fallbacks >= 6


def test_readers_name_a_flipped_bit_too(workdir, config):
    folder = workdir / "checkpoints" / "8" / "params" / "d"
    largest = max(folder.iterdir(), key=lambda path: path.stat().st_size)
    content = bytearray(largest.read_bytes())
    content[len(content) // 2] ^= 16
    largest.write_bytes(content)
    with pytest.raises(InputError, match="checkpoint: .*8 .*(damaged|cannot be read)"):
        read_params(workdir, config.model, 8)


def test_an_array_with_other_values_that_orbax_takes_for_its_own_is_noticed(workdir, config, capfd):
    params = state_of(config, 8).params
    folder = workdir / "checkpoints" / "8" / "params"
    shutil.rmtree(folder)
    with ocp.StandardCheckpointer() as orbax:
        orbax.save(folder, {**params, "logit_bias": params["logit_bias"].at[7].add(2.0**-20)})
    said = f"checkpoint: {folder.parent} is damaged, params/logit_bias is not as it was written"
    with pytest.raises(InputError, match=said):
        read_params(workdir, config.model, 8)
    assert int(restored(workdir, config)[0].step) == 4
    assert said in capfd.readouterr().err


def test_an_array_that_was_written_and_is_not_there_is_noticed(workdir, config, capfd):
    path = next((workdir / "checkpoints" / "8" / "run").glob("m*"))
    run = json.loads(path.read_text())
    del run["checksum"]
    run["checksums"]["params/one_more"] = 0
    rewrite_run(workdir, **run, checksum=zlib.crc32(json.dumps(run, sort_keys=True).encode()))
    assert int(restored(workdir, config)[0].step) == 4
    assert "8 is damaged, params/one_more is not as it was written" in capfd.readouterr().err


@pytest.mark.parametrize(
    "error", [ProcessError("process 1 is gone"), jax.errors.JaxRuntimeError("no memory")]
)
def test_what_is_no_fault_of_the_disk_is_not_taken_for_one(workdir, config, error):
    checkpoints = opened(workdir, config)

    def fail(*_, **__):
        raise error

    checkpoints._manager.restore = checkpoints._manager.save = fail
    with pytest.raises(type(error), match=str(error)):
        checkpoints.restore_state(shapes_on(config))
    with pytest.raises(type(error), match=str(error)):
        checkpoints.save_state(state_of(config, 9), position_of(9))
    checkpoints.close()
    assert {"4", "8"} <= set(os.listdir(workdir / "checkpoints"))


def test_nobody_begins_to_restore_what_another_process_cannot_read(workdir, config, monkeypatch, capfd):
    """Restoring is done together: who cannot even begin is not to be waited for there."""
    checkpoints, begun, votes = opened(workdir, config), [], iter(["damaged"])
    restore = checkpoints._manager.restore

    def recorded(step, args):
        begun.append(step)
        return restore(step, args=args)

    monkeypatch.setattr(checkpoint, "meet", lambda _, word, *__: [word, next(votes, "")])
    checkpoints._manager.restore = recorded
    state, _ = checkpoints.restore_state(shapes_on(config))
    checkpoints.close()
    assert begun == [4] and int(state.step) == 4
    assert "8 cannot be read by process 1; set aside as 8.damaged" in capfd.readouterr().err


def test_without_a_whole_checkpoint_nothing_is_moved(workdir, config):
    for step in ("4", "8"):
        truncate(workdir / "checkpoints" / step)
    with pytest.raises(InputError, match=r"checkpoints/8 .*; none before it is undamaged"):
        restored(workdir, config)
    assert {"4", "8"} <= set(os.listdir(workdir / "checkpoints"))


def rewrite_run(workdir, **changed):
    path = next((workdir / "checkpoints" / "8" / "run").glob("m*"))
    run = {**json.loads(path.read_text()), **changed}
    run = {name: value for name, value in run.items() if value is not None}
    path.write_text(json.dumps(run))


def test_another_format_is_refused_by_name_and_left_alone(workdir, config):
    rewrite_run(workdir, format=7)
    for read in (lambda: restored(workdir, config), lambda: read_workdir(workdir)):
        with pytest.raises(InputError, match=r"checkpoint: .*8 has format 7; valid: 1 or 2"):
            read()
    assert (workdir / "checkpoints" / "8").exists()


def test_the_first_format_which_has_no_checksums_is_still_read(workdir, config):
    rewrite_run(workdir, format=1, checksum=None, checksums=None, rows=None, skipped=None)
    state, position = restored(workdir, config)
    assert same(state, state_of(config, 8)) and position == Position({"next_index": 8})


def test_the_last_n_and_every_mth_are_kept(config, tmp_path):
    save(tmp_path, config, range(1, 12), keep_checkpoints=2, keep_every=4)
    steps = {int(name) for name in os.listdir(tmp_path / "checkpoints") if name.isdigit()}
    assert steps == {4, 8, 10, 11}


def test_a_clock_that_jumps_decides_nothing(config, tmp_path, monkeypatch):
    """It jumps by a minute at most: Orbax itself gives a save up when the clock goes on by several."""
    rng = random.Random(0)
    monkeypatch.setattr(time, "time", lambda: 1e9 + rng.uniform(0, 60))
    save(tmp_path, config, (4, 8, 12))
    for step, when in ((8, 4e9), (12, 1)):
        for path in (tmp_path / "checkpoints" / str(step)).rglob("*"):
            os.utime(path, (when, when))
        os.utime(tmp_path / "checkpoints" / str(step), (when, when))
    assert int(restored(tmp_path, config)[0].step) == 12
    assert sorted(name for name in os.listdir(tmp_path / "checkpoints") if name.isdigit()) == ["12", "8"]


def test_checksums_tell_values_places_and_types_apart_and_not_layouts():
    tree = {"a": np.arange(12, dtype=np.float32).reshape(3, 4), "b": np.array([True, False, True])}
    found = checksums(tree)
    # worked by hand: bits of entry i times 2 i + 1
    bits = tree["a"].view(np.uint32).ravel().astype(object)
    assert found["a"] == sum(int(bit) * (2 * i + 1) for i, bit in enumerate(bits)) % 2**32
    assert found["b"] == 1 + 5
    swapped = tree["a"].copy()
    swapped[0, 0], swapped[0, 1] = swapped[0, 1], swapped[0, 0]
    assert checksums({"a": swapped})["a"] != found["a"]
    mesh = make_mesh(4, 1)
    sharding = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec(None, "data"))
    assert checksums({"a": jax.device_put(tree["a"], sharding)})["a"] == found["a"]
    half = jnp.asarray([1.5, -2.0], jnp.bfloat16)
    assert checksums({"h": half})["h"] == (0x3FC0 + 3 * 0xC000) % 2**32
    assert checksums({"s": np.int32(-1)})["s"] == 2**32 - 1
