"""Files of torch.save: recorded ones, those that we write, and those that want to do harm."""

import io
import os
import pickle
import subprocess
import sys
import zipfile

import numpy as np
import pytest

from sparse_jax.inputs import InputError
from sparse_jax.models.torch_reader import StoredTensor, read_torch_file
from sparse_jax.models.torch_writer import write_torch_file
from tests.models.conftest import DATA


def test_everything_that_torch_saved_is_read():
    found = read_torch_file(DATA / "released" / "torch_save.pt")
    state = {name: tensor.read().tolist() for name, tensor in found["state"].items()}
    assert state == {"weight": [[0, 1, 2], [3, 4, 5]], "bias": [-1, 0.5]}
    assert found["parameter"].read().tolist() == [[0, 1, 2], [3, 4, 5]]
    assert found["half"].read().tolist() == found["bfloat"].read().tolist() == [1.5, -2]
    assert found["transposed"].read().tolist() == np.arange(12).reshape(3, 4).T.tolist()
    assert found["slice"].read().tolist() == [[3, 4, 5], [6, 7, 8]]
    assert found["scalar"].read() == 7 and found["scalar"].dtype == np.int64
    assert found["mask"].read().tolist() == [True, False]
    assert found["empty"].read().shape == (0, 4)
    assert found["size"] == (2, 3)
    assert found["nested"] == [1, -2, 3.5, "word", (None, True, 2**40)]
    assert "a tensor as key" in found.values()


def test_what_is_written_is_read_and_starts_at_multiples_of_64(tmp_path):
    arrays = {
        "a": np.arange(6, dtype=np.float32).reshape(2, 3).T,
        "b.c": np.float32([[[1.5]]]),
        "d": np.zeros(0),
    }
    arrays["e"] = np.array(3.0)
    write_torch_file(tmp_path / "x.pt", arrays.items())
    found = read_torch_file(tmp_path / "x.pt")
    assert list(found) == list(arrays)
    for name, array in arrays.items():
        assert found[name].shape == array.shape and found[name].storage.start % 64 == 0
        np.testing.assert_array_equal(found[name].read(), array)
        assert found[name].dtype == np.float32


def write_zip(path, content: bytes, more=()):
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in [("x/data.pkl", content), ("x/byteorder", b"little"), *more]:
            archive.writestr(name, data)
    return path


class Call:
    """Pickles as a call of `function`."""

    def __init__(self, function, *arguments):
        self.made = function, arguments

    def __reduce__(self):
        return self.made


HARMFUL = {
    "os.system": Call(os.system, "touch harmed"),
    "eval": Call(eval, "open('harmed', 'w')"),
    "exec in a list": [1, {"weights": (Call(exec, "open('harmed', 'w')"),)}],
    "getattr": Call(getattr, 1, "real"),
    "a bare class": subprocess.Popen,
    "object": Call(object),
}


@pytest.mark.parametrize("name", HARMFUL)
@pytest.mark.parametrize("protocol", [0, 2, 4, 5])
def test_a_pickle_that_asks_for_anything_else_is_refused(tmp_path, monkeypatch, name, protocol):
    monkeypatch.chdir(tmp_path)
    path = write_zip(tmp_path / "x.pt", pickle.dumps(HARMFUL[name], protocol))
    with pytest.raises(InputError, match="x.pt: its pickle"):
        read_torch_file(path)
    assert not (tmp_path / "harmed").exists()


STORAGE = b"(X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpuK\x02tQ"
REBUILD = b"ctorch._utils\n_rebuild_tensor_v2\n"


def tensor(shape: bytes, strides: bytes, offset: bytes = b"K\x00", storage: bytes = STORAGE) -> bytes:
    return b"\x80\x02" + REBUILD + b"(" + storage + offset + shape + strides + b"\x89}tR."


def test_the_pickles_below_are_wrong_in_one_thing_only(tmp_path):
    path = write_zip(tmp_path / "x.pt", tensor(b"K\x02\x85", b"K\x01\x85"), [("x/data/0", bytes(8))])
    assert read_torch_file(path).read().tolist() == [0, 0]


TRICKS = {
    "a tensor beyond its storage": tensor(b"K\x03\x85", b"K\x01\x85"),
    "an offset beyond its storage": tensor(b"K\x02\x85", b"K\x01\x85", b"K\x01"),
    "a negative stride": tensor(b"K\x02\x85", b"J\xff\xff\xff\xff\x85"),
    "a storage that is missing": tensor(
        b"K\x02\x85", b"K\x01\x85", storage=STORAGE.replace(b"\x000X", b"\x009X")
    ),
    "another size of storage": tensor(
        b"K\x02\x85", b"K\x01\x85", storage=STORAGE.replace(b"K\x02", b"K\x03")
    ),
    "a text as persistent id": b"\x80\x02X\x04\x00\x00\x00fileQ.",
    "a path as persistent id": tensor(
        b"K\x02\x85", b"K\x01\x85", storage=STORAGE.replace(b"\x01\x00\x00\x000X", b"\x04\x00\x00\x00../0X")
    ),
    "a persistent id in text": b"P../../etc/passwd\n.",
    "no storage": tensor(b"K\x02\x85", b"K\x01\x85", storage=b"N"),
    "a function set up by BUILD": b"\x80\x02" + REBUILD + b"}b.",
    "a tensor set up by BUILD": tensor(b"K\x02\x85", b"K\x01\x85")[:-1] + b"}b.",
    "a call of a dtype": b"\x80\x02ctorch\nFloatStorage\n)R.",
    "a call of a number": b"\x80\x02K\x01)R.",
    "INST": b"(ios\nsystem\n.",
    "OBJ": b"(cos\nsystem\no.",
    "NEWOBJ": b"\x80\x02ccollections\nOrderedDict\n)\x81.",
    "EXT": b"\x80\x02\x82\x01.",
    "a global made on the stack": b"\x80\x04\x8c\x02os\x8c\x06system\x93.",
    "a far memo": b"\x80\x02j\xff\xff\xff\x7f.",
    "no end": b"\x80\x02}",
    "nothing left": b"\x80\x020.",
    "empty": b"",
    "noise": bytes(range(255)),
}


@pytest.mark.parametrize("trick", TRICKS)
def test_tricks_of_pickles_are_refused(tmp_path, trick):
    path = write_zip(tmp_path / "x.pt", TRICKS[trick], [("x/data/0", bytes(8))])
    with pytest.raises(InputError, match="x.pt: "):
        read_torch_file(path)


def test_a_memo_index_costs_no_memory(tmp_path):
    path = write_zip(tmp_path / "x.pt", b"\x80\x02Nr\xff\xff\xff\x7f.")
    assert read_torch_file(path) is None


def saved(path):
    write_torch_file(path, [("a", np.arange(64, dtype=np.float32))])
    return path


def test_every_truncation_is_named(tmp_path):
    whole = saved(tmp_path / "x.pt").read_bytes()
    for length in range(0, len(whole), 37):
        (tmp_path / "x.pt").write_bytes(whole[:length])
        with pytest.raises(InputError, match="x.pt: "):
            read_torch_file(tmp_path / "x.pt")


def test_damaged_numbers_are_noticed(tmp_path):
    path = saved(tmp_path / "x.pt")
    start = read_torch_file(path)["a"].storage.start
    content = bytearray(path.read_bytes())
    content[start + 5] ^= 1
    path.write_bytes(content)
    with pytest.raises(InputError, match="wrong checksum"):
        read_torch_file(path)["a"].read()


@pytest.mark.parametrize("name", ["no such file", "a directory"])
def test_what_is_no_file_is_named(tmp_path, name):
    (tmp_path / "a directory").mkdir()
    with pytest.raises(InputError, match=name):
        read_torch_file(tmp_path / name)


def test_a_compressed_or_foreign_zip_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "c.pt", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x/data.pkl", pickle.dumps({"a": [0] * 1000}, 2))
    with pytest.raises(InputError, match="compressed"):
        read_torch_file(tmp_path / "c.pt")
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("word/document.xml", "<x/>")
    (tmp_path / "f.pt").write_bytes(stream.getvalue())
    with pytest.raises(InputError, match="found 0 entries named data.pkl"):
        read_torch_file(tmp_path / "f.pt")


LARGE = """
import resource, sys
from sparse_jax.models.torch_reader import read_torch_file
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for tensor in read_torch_file(sys.argv[1]).values():
    assert float(tensor.read().max()) == 0
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss counts KiB there")
def test_one_tensor_at_a_time_is_in_memory(tmp_path):
    each = 32 * 2**20
    tensors = ((f"t{i}", np.zeros(each // 4, np.float32)) for i in range(10))
    write_torch_file(tmp_path / "x.pt", tensors)
    command = [sys.executable, "-c", LARGE, str(tmp_path / "x.pt")]
    grown = int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    assert grown * 1024 < 2 * each


def test_a_tensor_is_read_only():
    found = read_torch_file(DATA / "released" / "torch_save.pt")["slice"]
    assert isinstance(found, StoredTensor)
    with pytest.raises(ValueError):
        found.read()[0, 0] = 1
