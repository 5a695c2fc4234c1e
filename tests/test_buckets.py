"""Paths in a bucket, against an emulator that honors generations: what is written, read and refused."""

import subprocess
import sys
import threading
from pathlib import Path

import pytest

from sparse_jax import buckets, copies
from sparse_jax.buckets import BucketPath, Changed
from sparse_jax.copies import on_this_machine
from sparse_jax.files import append_lines, new_directory, require_writable, user_path, write_whole
from sparse_jax.inputs import InputError
from tests.storage_server import Refused


@pytest.fixture(autouse=True)
def nowhere(tmp_path, monkeypatch):
    """Whatever is made here by mistake, such as a folder `gs:`, is seen."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    yield
    assert not list((tmp_path / "here").iterdir())


def names(storage, bucket):
    return storage.names(bucket.removeprefix("gs://"))


def test_parts_of_a_path(bucket):
    path = user_path(f"{bucket}/a/b.tar.gz")
    assert (path.name, path.stem, path.suffix) == ("b.tar.gz", "b.tar", ".gz")
    assert str(path.parent) == f"{bucket}/a" and str(path.parent.parent) == bucket == str(
        path.parent.parent.parent
    )
    assert (
        str(path.with_name("c") / "d") == f"{bucket}/a/c/d"
        and str(path.relative_to(path.parent)) == "b.tar.gz"
    )
    assert user_path(path) is path and user_path(f"{bucket}//a/./b.tar.gz") == path
    assert user_path(Path(f"{bucket}/a/b.tar.gz")) == path  # which has one slash only
    with pytest.raises(TypeError):  # open, Path and os would take it for a relative path
        Path(path)


@pytest.mark.parametrize(
    "given", ["gs://", "gs://B/x", "gs://a/x", "gs:///x", "gs:bucket/x"[:3] + "/", "gs://ab c/x"]
)
def test_what_is_no_bucket_is_refused(given):
    with pytest.raises(InputError, match="^path: .* is not valid; valid: gs://BUCKET/NAME"):
        user_path(given)


@pytest.mark.parametrize("name", ["a/../b", "a*", "a#1", "a?b", "a[0]", "a\nb"])
def test_names_that_some_client_would_misread_are_refused(bucket, name):
    with pytest.raises(InputError, match=r"^workdir: .* a name with \.\., "):
        user_path(f"{bucket}/{name}", "workdir")


def test_a_bucket_that_is_not_there_is_named_at_once(storage):
    with pytest.raises(
        InputError, match="^workdir: gs://no-such-bucket/x: the bucket 'no-such-bucket' does not exist"
    ):
        user_path("gs://no-such-bucket/x", "workdir")


def test_a_bucket_without_permission_is_named_at_once(storage, bucket):
    def before(*_):
        raise Refused(403, "you do not have storage.buckets.get")

    storage.before = before
    with pytest.raises(
        InputError, match=f"^model: {bucket}/x: no permission .*buckets.get.*; valid: the roles"
    ):
        user_path(f"{bucket}/x", "model")


def test_a_bucket_out_of_reach_is_named_soon(storage, bucket, monkeypatch):
    def before(*_):
        raise Refused(503, "come back later")

    storage.before = before
    monkeypatch.setattr(buckets, "FIRST_SECONDS", 1.0)
    with pytest.raises(InputError, match=f"^path: {bucket}: cannot be reached .*; valid: a network"):
        user_path(bucket)


def test_without_credentials_the_ways_to_get_some_are_named(tmp_path):
    code = (
        "import google.auth\n"
        "def none(*_, **__): raise google.auth.exceptions.DefaultCredentialsError('none found')\n"
        "google.auth.default = none\n"
        "from sparse_jax.files import user_path\n"
        "user_path('gs://bucket/x')\n"
    )
    found = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env={"PATH": "/bin", "PYTHONPATH": str(Path(__file__).parents[1])},
    )
    assert (
        "gs://bucket/x: no credentials (none found); valid: gcloud auth application-default login, or"
        in found.stderr
    )


def test_objects_and_directories(storage, bucket):
    root = user_path(f"{bucket}/run")
    assert (
        not root.exists() and not root.is_dir() and list(root.iterdir()) == [] and user_path(bucket).is_dir()
    )
    write_whole(root / "b" / "c.json", "é\r\n")
    write_whole(root / "a.txt", b"\x00\xff")
    write_whole(f"{bucket}/running", "another")  # begins alike
    storage.put(bucket.removeprefix("gs://"), "run/", b"")  # what the console makes for a folder
    assert (
        root.is_dir() and not root.is_file() and (root / "a.txt").is_file() and not (root / "a.txt").is_dir()
    )
    assert [path.name for path in root.iterdir()] == ["a.txt", "b"]
    assert list(root.glob("*.txt")) == [root / "a.txt"] and list((root / "none").glob("*")) == []
    assert (root / "b" / "c.json").read_bytes() == "é\r\n".encode()
    assert (root / "b" / "c.json").read_text() == "é\n"  # as from a disk
    assert [str(one.path.relative_to(root)) for one in root.objects(recursive=True)] == ["a.txt", "b/c.json"]
    assert [one.path.name for one in root.objects(recursive=False)] == ["a.txt"]
    before = (root / "a.txt").stat()
    write_whole(root / "a.txt", b"\x00\xfe")
    after = (root / "a.txt").stat()
    assert before.st_size == after.st_size == 2 and before.st_mtime_ns < after.st_mtime_ns
    (root / "a.txt").unlink()
    (root / "a.txt").unlink(missing_ok=True)
    for missing in ((root / "a.txt").read_bytes, (root / "a.txt").unlink, (root / "a.txt").stat):
        with pytest.raises(FileNotFoundError):
            missing()


def test_a_long_listing_has_several_pages(storage, bucket):
    name = bucket.removeprefix("gs://")
    for number in range(1500):
        storage.put(name, f"d/{number:04}/x", b"")
    assert (
        len(list(user_path(f"{bucket}/d").iterdir()))
        == 1500
        == len(user_path(f"{bucket}/d").objects(recursive=True))
    )


def test_a_write_that_asks_for_a_generation(bucket):
    path = user_path(f"{bucket}/x")
    first = path.write_bytes(b"1", replaces=0)
    with pytest.raises(Changed):
        path.write_bytes(b"2", replaces=0)
    second = path.write_bytes(b"2", replaces=first)
    for refused in (lambda: path.write_bytes(b"3", first), lambda: path.unlink(replaces=first)):
        with pytest.raises(Changed):
            refused()
    assert path.read_version() == (b"2", second)


def test_a_large_object_is_written_in_parts(storage, bucket):
    content = bytes(range(256)) * 40_000  # more than 8 MiB, above which uploads can be resumed
    write_whole(f"{bucket}/large", content)
    assert (
        storage.content(bucket.removeprefix("gs://"), "large")
        == content
        == user_path(f"{bucket}/large").read_bytes()
    )


def test_what_cannot_be_written_is_named(storage, bucket):
    user_path(bucket)

    def before(method, *_):
        if method != "GET":
            raise Refused(403, "you do not have storage.objects.create")

    storage.before = before
    for write in (lambda path: write_whole(path, ""), require_writable):
        with pytest.raises(InputError, match=f"^{bucket}/x: cannot be written .*objects.create"):
            write(f"{bucket}/x")
    with (
        pytest.raises(InputError, match=f"^{bucket}/x: cannot be written"),
        new_directory(f"{bucket}/x") as folder,
    ):
        (folder / "a").write_text("a")
    assert names(storage, bucket) == []


def test_what_can_be_written_is_not(storage, bucket):
    require_writable(f"{bucket}/a/b.txt")
    assert names(storage, bucket) == []


def test_a_new_directory_has_its_largest_file_last(storage, bucket):
    uploads = []
    with new_directory(f"{bucket}/model") as folder:
        (folder / "z.json").write_text("{}")
        (folder / "a.weights").write_bytes(bytes(1000))
        storage.before = lambda method, _, name: (
            uploads.append(names(storage, bucket)) if method == "POST" else None
        )
    assert uploads == [[], ["model/z.json"]] and names(storage, bucket) == ["model/a.weights", "model/z.json"]
    assert not folder.exists()
    with pytest.raises(InputError, match="model: exists; valid"), new_directory(f"{bucket}/model"):
        raise AssertionError


def test_a_new_directory_that_fails_leaves_nothing(storage, bucket):
    def before(method, *_):
        if method == "POST" and names(storage, bucket):
            raise Refused(403, "no more")

    with pytest.raises(InputError, match="cannot be written"), new_directory(f"{bucket}/m") as folder:
        (folder / "a").write_text("a")
        (folder / "b").write_text("bb")
        storage.before = before
    with pytest.raises(KeyError), new_directory(f"{bucket}/m"):
        raise KeyError
    assert names(storage, bucket) == []


def test_a_new_directory_replaces_nothing_that_came_meanwhile(storage, bucket):
    with (
        pytest.raises(InputError, match="cannot be written .is of another generation"),
        new_directory(f"{bucket}/m") as folder,
    ):
        (folder / "a").write_text("mine")
        write_whole(f"{bucket}/m/a", "theirs")
    assert user_path(f"{bucket}/m/a").read_text() == "theirs"


def test_lines_of_two_processes_are_all_kept(bucket):
    path = user_path(f"{bucket}/rows.jsonl")
    threads = [threading.Thread(target=append_lines, args=(path, f"{i}\n")) for i in range(6)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert sorted(path.read_text().split()) == [str(i) for i in range(6)]


def test_lines_on_a_disk_begin_after_a_whole_one(tmp_path):
    append_lines(tmp_path / "a" / "x", "1\n")
    (tmp_path / "a" / "x").write_text("1\n2")
    append_lines(tmp_path / "a" / "x", "3\n")
    assert (tmp_path / "a" / "x").read_text() == "1\n3\n"


def test_a_copy_is_made_once_and_found_by_its_content(storage, bucket, tmp_path):
    write_whole(f"{bucket}/m/a.py", "1")
    write_whole(f"{bucket}/m/b.txt", "2")
    write_whole(f"{bucket}/m/below/c.py", "3")
    path, reads = user_path(f"{bucket}/m"), []
    storage.before = lambda method, _, name: reads.append(name) if method == "GET" and name else None
    for _ in range(2):
        with on_this_machine(path) as copy:
            assert copy.name == "m" and sorted(file.name for file in copy.iterdir()) == ["a.py", "b.txt"]
    assert sum(name.endswith(".py") for name in reads) == 1
    with on_this_machine(path, ".py") as other:
        assert [file.name for file in other.iterdir()] == ["a.py"] and other != copy
    with on_this_machine(path / "a.py") as file:
        assert file.read_text() == "1" and file.name == "a.py"
    write_whole(f"{bucket}/m/a.py", "changed")
    with on_this_machine(path) as changed:
        assert (changed / "a.py").read_text() == "changed"
    assert (copy / "a.py").read_text() == "1"  # whoever has mapped it goes on
    assert copy.is_relative_to(tmp_path / "cache" / "sparse_jax") == changed.is_relative_to(
        copies.cache_directory()
    )
    assert not list((tmp_path / "cache").rglob("*.unfinished.*"))
    with on_this_machine(tmp_path) as same:
        assert same is tmp_path


def test_an_error_about_a_copy_names_the_bucket(bucket):
    write_whole(f"{bucket}/m/a", "1")
    with (
        pytest.raises(InputError, match=f"^{bucket}/m/a: bad"),
        on_this_machine(user_path(f"{bucket}/m")) as copy,
    ):
        raise InputError(f"{copy / 'a'}: bad")
    with pytest.raises(FileNotFoundError), on_this_machine(BucketPath(bucket.removeprefix("gs://"), "none")):
        raise AssertionError


def test_a_copy_that_is_damaged_on_its_way_is_not_taken(storage, bucket):
    write_whole(f"{bucket}/m/a", "12345678")
    found = storage.objects(bucket.removeprefix("gs://"))["m/a"]
    found.content = b"1234567x"  # not what its checksum says
    with (
        pytest.raises(InputError, match=f"^{bucket}/m: cannot be copied to"),
        on_this_machine(user_path(f"{bucket}/m")),
    ):
        raise AssertionError
