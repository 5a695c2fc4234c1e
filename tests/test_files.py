"""Whole or not at all."""

import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from sparse_jax.files import json_lines, new_directory, require_writable, user_path, write_whole
from sparse_jax.inputs import InputError


def test_folders_are_made_and_content_is_exact(tmp_path):
    write_whole(tmp_path / "a" / "b.txt", "é\r\n")
    assert (tmp_path / "a" / "b.txt").read_bytes() == "é\r\n".encode()
    write_whole(tmp_path / "a" / "b.txt", b"\x00\xff")
    assert (tmp_path / "a" / "b.txt").read_bytes() == b"\x00\xff"
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["b.txt"]


def test_no_room_leaves_what_was_there(tmp_path):
    (tmp_path / "x").write_text("old")
    code = (
        "import resource, signal, sys\n"
        "from sparse_jax.files import new_directory, write_whole\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "write_whole(sys.argv[1], 'new' * 1000)\n"
    )
    result = subprocess.run([sys.executable, "-c", code, tmp_path / "x"], capture_output=True, text=True)
    assert "InputError" in result.stderr and "cannot be written (File too large)" in result.stderr
    assert (tmp_path / "x").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["x"]
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] != 1000


@pytest.mark.parametrize("write", [require_writable, lambda path: write_whole(path, "")])
def test_a_file_in_the_way_of_a_folder_is_named(tmp_path, write):
    (tmp_path / "x").write_text("")
    with pytest.raises(InputError, match="x/y: cannot be written"):
        write(tmp_path / "x" / "y")


def test_a_file_that_can_be_written_is_not(tmp_path):
    require_writable(tmp_path / "a" / "b.txt")
    assert list((tmp_path / "a").iterdir()) == []
    with pytest.raises(InputError, match="a: is a directory"):
        require_writable(tmp_path / "a")


def test_a_new_directory_is_there_whole(tmp_path):
    with new_directory(tmp_path / "a" / "b") as unfinished:
        (unfinished / "x").write_text("x")
        assert not (tmp_path / "a" / "b").exists()
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["b"]
    assert (tmp_path / "a" / "b" / "x").read_text() == "x"


def test_a_new_directory_that_fails_leaves_nothing(tmp_path):
    with pytest.raises(KeyError), new_directory(tmp_path / "a") as unfinished:
        (unfinished / "x").write_text("x")
        raise KeyError
    assert list(tmp_path.iterdir()) == []


def test_a_new_directory_leaves_what_lies_beside_it(tmp_path):
    (tmp_path / "a.unfinished").mkdir()
    (tmp_path / "a.unfinished" / "mine").write_text("mine")
    with new_directory(tmp_path / "a") as unfinished:
        (unfinished / "x").write_text("x")
    with pytest.raises(KeyError), new_directory(tmp_path / "b"):
        raise KeyError
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "a.unfinished"]
    assert (tmp_path / "a.unfinished" / "mine").read_text() == "mine"


def test_a_new_directory_replaces_nothing(tmp_path):
    with pytest.raises(InputError, match="exists; valid"), new_directory(tmp_path):
        raise AssertionError
    assert list(tmp_path.iterdir()) == []


def test_what_is_not_finite_is_null_in_json():
    rows = [{"a": float("nan"), "b": [1.5, float("inf")]}, {"c": {"d": (float("-inf"), 2)}}]
    first, second = json_lines(rows).splitlines()
    assert json.loads(first, parse_constant=pytest.fail) == {"a": None, "b": [1.5, None]}
    assert json.loads(second, parse_constant=pytest.fail) == {"c": {"d": [None, 2]}}


def test_two_processes_may_write_one_file_at_once_on_several_machines(tmp_path, monkeypatch):
    """The same process number on two machines: the unfinished files are two all the same."""
    seen, replace = [], os.replace

    def spy(source, target):
        seen.append(Path(source).name)
        if len(seen) == 1:
            write_whole(tmp_path / "a", "second")
        replace(source, target)

    monkeypatch.setattr(os, "replace", spy)
    write_whole(tmp_path / "a", "first")
    assert len(set(seen)) == 2 and (tmp_path / "a").read_text() == "first"
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_a_home_is_expanded_wherever_something_is_written(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    write_whole("~/a/x.txt", "text")
    require_writable("~/b/x.txt")
    with new_directory("~/c") as folder:
        (folder / "x.txt").touch()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b", "c"]
    assert user_path("~/a") == tmp_path / "a" and user_path("a/~") == Path("a/~")


@pytest.mark.parametrize("given", ["s3://b/n", "https://x.org/n", Path("hdfs://b/n"), "AZ://b"])
def test_other_schemes_are_refused_by_name(tmp_path, monkeypatch, given):
    monkeypatch.chdir(tmp_path)
    scheme = str(given).split(":")[0]
    for write in (
        lambda: write_whole(given, ""),
        lambda: require_writable(given),
        new_directory(given).__enter__,
    ):
        with pytest.raises(
            InputError, match=f"^path: .*: {scheme}:// is not supported; valid: a path on .* gs://"
        ):
            write()
    assert not list(tmp_path.iterdir())


def test_paths_that_are_none():
    with pytest.raises(InputError, match="^workdir: empty; valid: a path"):
        user_path("", "workdir")
    with pytest.raises(InputError, match="^circuit: 3 is not valid; valid: a path$"):
        user_path(3, "circuit")
    with pytest.raises(InputError, match="no home of ~nobody-of-this-name is known"):
        user_path("~nobody-of-this-name/x")
    assert user_path("a:b/c") == Path("a:b/c")
