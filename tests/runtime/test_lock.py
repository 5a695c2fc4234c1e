"""Workdirs: one run at a time, a dead one is no obstacle, and one that cannot be written is named."""

import fcntl
import os
import signal
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import pytest

from sparse_jax.inputs import InputError
from sparse_jax.runtime.lock import held
from sparse_jax.training.loop import train
from sparse_jax.training.resume import check_workdir

HOLDER = """
import sys, time
from pathlib import Path
from sparse_jax.runtime.lock import held
with held(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(600)
"""


def test_the_second_run_in_a_workdir_is_refused_until_the_first_is_dead(config, tmp_path):
    command = [sys.executable, "-c", HOLDER, str(tmp_path / "run")]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as first:
        try:
            assert first.stdout.readline() == b"held\n"
            said = f"workdir: .*run is in use by process {first.pid} on .*; valid: another workdir"
            for refused in (check_workdir, lambda workdir, config: train(config, workdir)):
                with pytest.raises(InputError, match=said):
                    refused(tmp_path / "run", config)
            with pytest.raises(InputError, match=said), held(tmp_path / "run"):
                pass
        finally:
            os.kill(first.pid, signal.SIGKILL)
    assert os.listdir(tmp_path / "run") == [".lock"]
    assert (tmp_path / "run" / ".lock").read_text()  # of the dead, which cannot have put it away
    check_workdir(tmp_path / "run", config)
    with held(tmp_path / "run"), pytest.raises(InputError, match=f"in use by process {os.getpid()} on"):
        check_workdir(tmp_path / "run", config)
    assert (tmp_path / "run" / ".lock").read_text() == ""


def test_another_command_that_looks_for_a_moment_whether_the_lock_is_free_does_not_refuse_a_run(tmp_path):
    with (tmp_path / ".lock").open("w") as looking:
        fcntl.flock(looking, fcntl.LOCK_SH)
        threading.Timer(0.1, fcntl.flock, (looking, fcntl.LOCK_UN)).start()
        with held(tmp_path):
            assert (tmp_path / ".lock").read_text()


@pytest.fixture
def read_only():
    """A directory that this process cannot write to, even if it is root's; beside it one, `half`, of which
    that is true of its checkpoints."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "run"
        folder.mkdir()
        Path(name).chmod(0o755)
        folder.chmod(0o555)
        half = folder.with_name("half")
        (half / "checkpoints").mkdir(parents=True)
        half.chmod(0o777)
        (half / "checkpoints").chmod(0o555)
        root = os.geteuid() == 0
        try:
            if root:
                os.seteuid(65534)
            yield folder
        finally:
            if root:
                os.seteuid(0)
            folder.chmod(0o755)


def test_a_directory_that_cannot_be_written_is_named_before_any_work(config, read_only):
    for workdir in (read_only, read_only / "deeper" / "run"):
        with pytest.raises(InputError, match=f"workdir: {read_only} cannot be written; valid: "):
            train(config, workdir)
    with (
        pytest.raises(InputError, match=r"workdir: .*\.lock cannot be written \(Permission denied\)"),
        held(read_only),
    ):
        pass
    assert os.listdir(read_only) == []
    half = read_only.with_name("half")
    with pytest.raises(InputError, match=f"workdir: {half}/checkpoints cannot be written; valid: "):
        train(config, half)
    assert os.listdir(half) == ["checkpoints"]
