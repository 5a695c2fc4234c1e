import os
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
import tensorflow_datasets as tfds

from sparse_jax.data.builders import PythonSource, SimplePython, TextFiles
from sparse_jax.data.documents import content_hash
from sparse_jax.data.simple_python import programs
from sparse_jax.inputs import InputError


def rows(builder, split):
    return [(row["text"].decode(), row["origin"].decode()) for row in builder.as_data_source(split)]


def test_programs_without_a_network(tmp_path, monkeypatch):
    def connect(*_, **__):
        raise AssertionError("a connection was tried")

    monkeypatch.setattr(socket.socket, "connect", connect)
    monkeypatch.setattr(socket, "getaddrinfo", connect)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    builder = SimplePython(examples=50, seed=3, validation_fraction=0.2, data_dir=tmp_path / "data")
    builder.download_and_prepare()
    made = {f"simple_python/3/{i}": text for i, text in enumerate(programs(3, 50))}
    train, validation = (rows(builder, split) for split in ("train", "validation"))
    for split, held_out in ((train, False), (validation, True)):
        assert all(made[origin] == text for text, origin in split)
        assert all((content_hash(text) < 0.2 * 2**64) == held_out for text, _ in split)
        numbers = [int(origin.rsplit("/", 1)[1]) for _, origin in split]
        assert numbers == sorted(numbers)
    assert len(train) + len(validation) == 50
    assert list(tmp_path.glob("data/simple_python/1.0.0/simple_python-train.array_record-*"))
    assert not list((tmp_path / "temporary").iterdir())


def test_tfds_reopens_it_and_knows_what_was_left_out(tmp_path):
    tree = tmp_path / "tree"
    tree.mkdir()
    for name, text in {"a": "x = 1\n", "b": "x = 1\n", "c": "y = 2\n", "d": "print 'x'\n"}.items():
        (tree / f"{name}.py").write_text(text)
    PythonSource(paths=[str(tree)], data_dir=tmp_path / "data").download_and_prepare()
    again = tfds.builder_from_directory(tmp_path / "data" / "python_source" / "1.0.0")
    assert sorted(text for split in ("train", "validation") for text, _ in rows(again, split)) == [
        "x = 1\n",
        "y = 2\n",
    ]
    assert dict(again.info.metadata) == {"duplicates": 1, "skipped": {"does not parse": ["tree/d.py"]}}


def test_text_files(tmp_path):
    (tmp_path / "x.jsonl").write_text('{"text": "one"}\n{"text": "two"}\n')
    builder = TextFiles(paths=[str(tmp_path / "x.jsonl")], data_dir=tmp_path / "data")
    builder.download_and_prepare()
    both = rows(builder, "train") + rows(builder, "validation")
    assert sorted(both) == [("one", "x.jsonl:1"), ("two", "x.jsonl:2")]


def test_a_bad_source_leaves_nothing(tmp_path):
    (tmp_path / "x.jsonl").write_text('{"text": "one"}\n{"text": "two"}\noops\n')
    builder = TextFiles(paths=[str(tmp_path / "x.jsonl")], data_dir=tmp_path / "data")
    with pytest.raises(InputError, match=r"^paths: .*x\.jsonl, line 3, column 1: not JSON"):
        builder.download_and_prepare()
    assert not list(tmp_path.glob("data/text_files/*"))


def test_tensorflow_is_not_even_imported(tmp_path):
    code = (
        "import sys\n"
        "from sparse_jax.data.builders import SimplePython\n"
        f"builder = SimplePython(examples=20, data_dir={str(tmp_path)!r})\n"
        "builder.download_and_prepare()\n"
        "print(sum(len(builder.as_data_source(split)) for split in ('train', 'validation')))\n"
        "print('tensorflow' in sys.modules)"
    )
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True
    )
    assert run.stdout.split()[-2:] == ["20", "False"]


def test_what_is_left_out_is_said(tmp_path, capsys):
    tree = tmp_path / "tree"
    tree.mkdir()
    for name, text in {"a": "x = 1\n", "c": "y = 2\n", "d": "print 'x'\n"}.items():
        (tree / f"{name}.py").write_text(text)
    (tree / "link").symlink_to(tmp_path)
    PythonSource(paths=[str(tree)], data_dir=tmp_path / "data").download_and_prepare()
    said = capsys.readouterr().err
    assert f"left out: 1 is a linked directory ({tree / 'link'}); 1 does not parse (tree/d.py)" in said


def test_a_file_name_that_is_not_utf8_is_kept_with_its_bytes(tmp_path):
    path = os.fsdecode(os.fsencode(tmp_path) + b"/\xff.jsonl")
    Path(path).write_text('{"text": "one"}\n{"text": "two"}\n')
    builder = TextFiles(paths=[path], data_dir=tmp_path / "data")
    builder.download_and_prepare()
    both = rows(builder, "train") + rows(builder, "validation")
    assert sorted(both) == [("one", r"\xff.jsonl:1"), ("two", r"\xff.jsonl:2")]
