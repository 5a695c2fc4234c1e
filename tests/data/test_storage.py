import fcntl
import os
import threading

import pytest

from sparse_jax.data.storage import building, new_folder
from sparse_jax.inputs import InputError

FULL = "No space left on device"


def test_a_folder_appears_only_when_it_is_complete(tmp_path):
    final = tmp_path / "deep" / "final"
    with new_folder(final) as folder:
        (folder / "file").write_text("x")
        assert not final.exists()
    assert (final / "file").read_text() == "x"
    assert os.listdir(final.parent) == ["final"]


def test_a_folder_that_failed_leaves_nothing(tmp_path):
    with pytest.raises(KeyboardInterrupt), new_folder(tmp_path / "final") as folder:
        (folder / "file").write_text("x")
        raise KeyboardInterrupt
    assert os.listdir(tmp_path) == []


def test_the_faster_of_two_wins(tmp_path):
    with new_folder(tmp_path / "final") as slow:
        (slow / "file").write_text("slow")
        with new_folder(tmp_path / "final") as fast:
            (fast / "file").write_text("fast")
    assert (tmp_path / "final" / "file").read_text() == "fast"
    assert os.listdir(tmp_path) == ["final"]


@pytest.mark.parametrize(
    "error",
    [
        OSError(28, FULL),
        RuntimeError(f"Failed to finalize: write() failed: {FULL}; writing x"),
        PermissionError(13, "Permission denied"),
    ],
)
def test_what_the_system_refuses_is_one_clear_line(tmp_path, error):
    reason = getattr(error, "strerror", None) or FULL
    with pytest.raises(InputError) as caught, building(tmp_path / "data"):
        raise error
    assert str(caught.value) == f"data.directory: cannot write to {str(tmp_path / 'data')!r} ({reason})"


def test_the_reason_may_be_in_the_cause(tmp_path):
    """TFDS raises OSErrors anew with a longer text and without their number."""
    with pytest.raises(InputError, match=FULL), building(tmp_path):
        raise OSError(f"Failed to write: {FULL}") from OSError(28, FULL)


def test_a_directory_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("x")
    message = r"^data\.directory: cannot write to '.*/file/data' \(Not a directory\)"
    with pytest.raises(InputError, match=message), building(tmp_path / "file" / "data"):
        pass


@pytest.mark.parametrize("error", [RuntimeError("a mistake"), InputError("a field: wrong"), KeyError("x")])
def test_other_errors_pass(tmp_path, error):
    with pytest.raises(type(error)) as caught, building(tmp_path):
        raise error
    assert caught.value is error


def test_one_builds_and_the_other_waits(tmp_path, capsys):
    order = []

    def second():
        with building(tmp_path):
            order.append("second")

    with building(tmp_path):
        with (tmp_path / ".lock").open("w") as lock, pytest.raises(BlockingIOError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        thread = threading.Thread(target=second)
        thread.start()
        thread.join(0.3)
        order.append("first")
    thread.join()
    assert order == ["first", "second"]
    assert "another process is preparing" in capsys.readouterr().err
