"""Weights in one file or shards, wrapped or not: the same model as from the plain file."""

import json
import pickle
import shutil
import zipfile

import numpy as np
import pytest
import safetensors.numpy

from sparse_jax.inputs import InputError
from sparse_jax.models.formats import load_model
from sparse_jax.models.hugging_face import read_hugging_face
from sparse_jax.models.released import read_released
from sparse_jax.models.torch_reader import read_torch_file
from sparse_jax.models.torch_writer import write_torch_file
from tests.models.conftest import DATA
from tests.models.test_released import assert_same

SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"
EMBEDDING, UNEMBEDDING = "transformer.wte.weight", "lm_head.weight"


@pytest.fixture
def directory(tmp_path):
    return shutil.copytree(DATA / "gpt2" / "gpt2_tied", tmp_path / "gpt2")


@pytest.fixture
def wanted():
    return read_hugging_face(DATA / "gpt2" / "gpt2_tied")


def tensors_of(directory):
    return safetensors.numpy.load_file(directory / SINGLE)


def save_shards(directory, tensors, write, pattern, index):
    """Every third tensor in a shard of its own, and the index; the single file is gone."""
    files = {}
    for number in range(3):
        file = pattern.format(number + 1)
        shard = dict(list(tensors.items())[number::3])
        write(directory / file, shard)
        files |= dict.fromkeys(shard, file)
    (directory / index).write_text(json.dumps({"metadata": {}, "weight_map": files}))
    (directory / SINGLE).unlink()


def save_safetensors(path, tensors):
    safetensors.numpy.save_file(tensors, path)


def save_torch(path, tensors):
    write_torch_file(path, tensors.items())


SHARDS = {
    "safetensors": (save_safetensors, "model-0000{}-of-00003.safetensors", INDEX),
    "torch": (save_torch, "pytorch_model-0000{}-of-00003.bin", "pytorch_model.bin.index.json"),
}


@pytest.mark.parametrize("kind", SHARDS)
def test_shards_are_one_model(directory, wanted, kind):
    save_shards(directory, tensors_of(directory), *SHARDS[kind])
    assert_same(load_model(directory), wanted)


def test_pytorch_model_bin_is_read(directory, wanted):
    save_torch(directory / "pytorch_model.bin", tensors_of(directory))
    (directory / SINGLE).unlink()
    assert_same(load_model(directory), wanted)


def test_safetensors_win_over_bin(directory, wanted):
    save_torch(directory / "pytorch_model.bin", {"another": np.zeros(1)})
    assert_same(load_model(directory), wanted)


def test_an_index_without_its_shards_is_left_over_and_one_with_them_is_refused(directory, wanted):
    content = (directory / SINGLE).read_bytes()
    save_shards(directory, tensors_of(directory), *SHARDS["safetensors"])
    (directory / SINGLE).write_bytes(content)
    with pytest.raises(InputError, match="model.safetensors.index.json and model-00001.*lie beside it"):
        load_model(directory)
    for shard in directory.glob("model-*"):
        shard.unlink()
    assert_same(load_model(directory), wanted)


def drop_shard(directory):
    (directory / "model-00002-of-00003.safetensors").unlink()


def empty_shard(directory):
    save_safetensors(directory / "model-00002-of-00003.safetensors", {})


def more_in_shard(directory):
    path = directory / "model-00002-of-00003.safetensors"
    save_safetensors(path, {**safetensors.numpy.load_file(path), "more": np.zeros(1)})


def drop_index(directory):
    (directory / INDEX).unlink()


def index_of(weight_map):
    def change(directory):
        (directory / INDEX).write_text(json.dumps({"weight_map": weight_map}))

    return change


FAULTS = {
    "a shard is missing": (drop_shard, "model-00002-of-00003.safetensors not found"),
    "a tensor is missing": (empty_shard, "is missing in model-00002-of-00003.safetensors"),
    "a tensor too many": (more_in_shard, "'more' lies in model-00002.*the index says None"),
    "no index": (drop_index, "weights not found.*model.safetensors.index.json"),
    "an empty index": (index_of({}), "weight_map not found"),
    "a file elsewhere": (index_of({"x": "../x.safetensors"}), "'../x.safetensors' is not valid"),
    "no file name": (index_of({"x": 3}), "3 is not valid"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_shards_that_contradict_their_index_are_named(directory, fault):
    save_shards(directory, tensors_of(directory), *SHARDS["safetensors"])
    change, said = FAULTS[fault]
    change(directory)
    with pytest.raises(InputError, match=said):
        load_model(directory)


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "module._orig_mod."])
def test_names_of_wrapped_networks_are_read(directory, wanted, prefix):
    save_safetensors(directory / SINGLE, {prefix + name: x for name, x in tensors_of(directory).items()})
    assert_same(load_model(directory), wanted)


def test_names_of_blocks_compiled_one_by_one_are_read(directory, wanted):
    tensors = {name.replace(".h.0.", ".h.0._orig_mod."): x for name, x in tensors_of(directory).items()}
    save_safetensors(directory / SINGLE, tensors)
    assert_same(load_model(directory), wanted)


def test_two_names_of_one_tensor_are_refused(directory):
    tensors = tensors_of(directory)
    save_safetensors(directory / SINGLE, {**tensors, f"module.{EMBEDDING}": tensors[EMBEDDING]})
    with pytest.raises(InputError, match=f"'module.{EMBEDDING}' .*are the same tensor"):
        load_model(directory)


def test_a_tied_model_may_keep_the_unembedding_alone(directory, wanted):
    tensors = tensors_of(directory)
    tensors[UNEMBEDDING] = tensors.pop(EMBEDDING)
    save_safetensors(directory / SINGLE, tensors)
    assert_same(load_model(directory), wanted)


def test_a_tied_released_model_may_too(released, tmp_path):
    directory = shutil.copytree(released / "tied_relu_resid", tmp_path / "model")
    path = directory / "final_model.pt"
    tensors = {name: np.array(tensor.read()) for name, tensor in read_torch_file(path).items()}
    del tensors[EMBEDDING]
    path.unlink()
    write_torch_file(path, tensors.items())
    assert_same(read_released(directory), read_released(released / "tied_relu_resid"))


def test_float64_is_rounded_and_what_is_too_large_is_refused(directory, wanted):
    tensors = {name: x.astype(np.float64) for name, x in tensors_of(directory).items()}
    name = "transformer.h.0.mlp.c_fc.bias"
    tensors[name] *= 1 + 1e-12
    save_safetensors(directory / SINGLE, tensors)
    assert_same(load_model(directory), wanted)
    tensors[name][3] = 1e300
    save_safetensors(directory / SINGLE, tensors)
    with pytest.raises(InputError, match="contains 1 values that are not finite in float32"):
        load_model(directory)


def nested(path, outer):
    """Rewrites a file of write_torch_file so that its dict lies under the names `outer`."""
    with zipfile.ZipFile(path) as archive:
        parts = [(name, archive.read(name)) for name in archive.namelist()]
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in parts:
            if name.endswith("data.pkl"):
                inner = data.removeprefix(b"\x80\x02").removesuffix(b".")
                for key in reversed(outer):
                    text = key.encode()
                    inner = b"}(X" + len(text).to_bytes(4, "little") + text + inner + b"u"
                data = b"\x80\x02" + inner + b"."
            archive.writestr(name, data)


@pytest.mark.parametrize("outer", [("model",), ("state_dict",), ("model", "state_dict")])
def test_a_state_dict_inside_a_checkpoint_is_found(directory, wanted, outer):
    path = directory / "pytorch_model.bin"
    save_torch(path, tensors_of(directory))
    nested(path, outer)
    (directory / SINGLE).unlink()
    assert_same(load_model(directory), wanted)


@pytest.mark.parametrize(
    "pickled, said",
    [
        (pickle.dumps({"model": {}, "state_dict": {}}, 2), "contains model and state_dict"),
        (pickle.dumps({"net": {}}, 2), "'net' is not a tensor"),
        (pickle.dumps([1], 2), "not a dict of tensors"),
        (b"\x80\x02}q\x00X\x05\x00\x00\x00modelh\x00s.", "'model' is not a tensor"),  # contains itself
    ],
)
def test_a_checkpoint_without_tensors_is_refused(directory, pickled, said):
    (directory / SINGLE).unlink()
    with zipfile.ZipFile(directory / "pytorch_model.bin", "w") as archive:
        archive.writestr("x/data.pkl", pickled)
    with pytest.raises(InputError, match=said):
        load_model(directory)


def test_a_file_of_old_pytorch_is_named(directory):
    (directory / SINGLE).unlink()
    (directory / "pytorch_model.bin").write_bytes(pickle.dumps(0x1950A86A20F9469CFC6C, 2) + b"\x80\x02.")
    with pytest.raises(InputError, match="before PyTorch 1.6"):
        load_model(directory)


def test_a_file_without_checksums_is_read(tmp_path):
    path = tmp_path / "x.pt"
    write_torch_file(path, [("a", np.arange(64, dtype=np.float32))])
    content = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as archive:
        entries, at = archive.infolist(), archive.start_dir
    for entry in entries:  # in the local header and in the central directory, which follow the entries' order
        content[entry.header_offset + 14 : entry.header_offset + 18] = bytes(4)
        assert content[at : at + 4] == b"PK\x01\x02"
        content[at + 16 : at + 20] = bytes(4)
        at += 46 + len(entry.filename) + len(entry.extra) + len(entry.comment)
    path.write_bytes(content)
    with zipfile.ZipFile(path) as archive:
        assert {entry.CRC for entry in archive.infolist()} == {0} and archive.testzip()
    np.testing.assert_array_equal(read_torch_file(path)["a"].read(), np.arange(64))


def test_a_damaged_pickle_is_noticed_by_its_checksum(tmp_path):
    path = tmp_path / "x.pt"
    write_torch_file(path, [("a", np.zeros(4, np.float32))])
    path.write_bytes(path.read_bytes().replace(b"X\x01\x00\x00\x00a", b"X\x01\x00\x00\x00b"))
    with pytest.raises(InputError, match="wrong checksum of 'final_model/data.pkl'"):
        read_torch_file(path)
