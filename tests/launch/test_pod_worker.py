"""What tpu_pod.sh tells every worker of a pod to do."""

import os
import shutil
import subprocess
import threading
import time
from pathlib import Path

import pytest

from tests.launch.checkout import GCLOUD, POD, TRAIN


@pytest.fixture
def worker(checkout):
    """Runs what a worker of a pod is told to, with stand-ins for what changes the machine."""
    checkout.stand_in(
        "gcloud", GCLOUD.replace("SSH", 'last="${!#}"; printf %s "${last#--command=}" > worker.sh')
    )
    # every test has a name, and so a file under /dev/shm, of its own
    name = f"test-{os.getpid()}-{time.monotonic_ns()}"
    assert checkout.run("tpu_pod.sh", *TRAIN, **POD | {"NAME": name}).returncode == 0
    checkout.calls.unlink()
    (checkout.root / "sparse_jax").mkdir()
    shutil.copytree(checkout.root / "launch", checkout.root / "sparse_jax" / "launch")
    for program in ("git", "sudo", "mountpoint", "mount.nfs", "python3.12"):
        checkout.stand_in(program, "true")
    for program in ("bash", "cat", "grep", "sleep", "tail", "timeout", "touch"):
        (checkout.bin / program).symlink_to(shutil.which(program))

    def run() -> subprocess.CompletedProcess:
        environment = {"PATH": str(checkout.bin)}
        command = ["bash", "worker.sh"]
        return subprocess.run(command, cwd=checkout.root, env=environment, capture_output=True, timeout=60)

    yield run
    Path(f"/dev/shm/{name}.pid").unlink(missing_ok=True)


def test_a_worker_mounts_the_disk_that_outlives_it_and_gets_a_python(checkout, worker):
    checkout.stand_in("python", "true")
    checkout.stand_in("mountpoint", "false")
    (checkout.bin / "python3.12").unlink()
    assert worker().returncode == 0
    calls = checkout.called()
    assert ["mount", "-t", "nfs", "10.0.0.2:/runs", "/mnt/runs"] in calls
    assert any(call[0] == "apt-get" and call[-2:] == ["install", "python3.12-venv"] for call in calls)
    assert calls[-1] == ["-m", *TRAIN]


def test_a_worker_that_has_all_installs_nothing(checkout, worker):
    checkout.stand_in("python", "true")
    assert worker().returncode == 0
    assert not any("apt-get" in call or "mount" in call for call in checkout.called())


def test_a_worker_stops_what_a_lost_connection_has_left(checkout, worker):
    saves = "trap 'touch saved; exit 75' TERM"
    checkout.stand_in("python", f"[ ! -f up ] || exit 0; {saves}; touch up; while true; do sleep 0.1; done")
    first = threading.Thread(target=worker)
    first.start()
    while not (checkout.root / "up").exists():
        pass
    assert worker().returncode == 0
    first.join(timeout=30)
    assert (checkout.root / "saved").exists()


def test_a_worker_takes_branch_tag_and_commit_as_they_are_now(checkout):
    checkout.stand_in("gcloud", GCLOUD.replace("SSH", 'printf %s "${!#}" > worker.sh'))
    origin, worker = checkout.root / "origin", checkout.root / "worker"
    worker.mkdir()

    def git(*arguments: str, folder: Path = origin) -> str:
        command = ["git", "-c", "user.name=a", "-c", "user.email=a@b", *arguments]
        done = subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True, timeout=60)
        return done.stdout.strip()

    def commit(message: str) -> str:
        git("commit", "--quiet", "--allow-empty", "-m", message)
        return git("rev-parse", "HEAD")

    def taken(revision: str) -> str:
        """What a worker that keeps its clone is at, after the lines that are about git."""
        done = checkout.run("tpu_pod.sh", *TRAIN, **POD | {"REPOSITORY": str(origin), "REVISION": revision})
        assert done.returncode == 0, done.stderr
        script = (checkout.root / "worker.sh").read_text()
        lines = script[script.index("test -d sparse_jax") : script.index("export TPU_NAME")]
        subprocess.run(["bash", "-ec", lines], cwd=worker, check=True, timeout=60)
        return git("rev-parse", "HEAD", folder=worker / "sparse_jax")

    origin.mkdir()
    git("init", "--quiet", "--initial-branch=main")
    first = commit("first")
    git("branch", "other")
    git("tag", "v1")
    assert [taken(name) for name in ("main", "other", "v1", first)] == [first] * 4
    second = commit("second")
    git("branch", "--force", "other")
    git("tag", "--force", "v1")
    assert [taken(name) for name in ("main", "other", "v1", second)] == [second] * 4
    assert taken(first[:10]) == first
