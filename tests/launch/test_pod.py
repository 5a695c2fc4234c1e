"""tpu_pod.sh: a slice is asked for, used, kept where it can go on, and given back."""

import contextlib
import os
import shlex
import signal
import subprocess
import sys
import time

import pytest

from tests.launch.checkout import GCLOUD, HEEDS_CTRL_C, POD, TRAIN, Checkout


def verbs(checkout: Checkout) -> list[str]:
    """What gcloud did that changes something."""
    return [call[3] for call in checkout.called() if call[3] != "describe"]


def test_a_pod_is_asked_for_used_and_given_back(checkout):
    checkout.stand_in("gcloud", GCLOUD.replace("SSH", "true"))
    done = checkout.run("tpu_pod.sh", *TRAIN, **POD, SPOT="true")
    assert done.returncode == 0, done.stderr
    assert verbs(checkout) == ["create", "ssh", "delete"]
    create, ssh = (next(c for c in checkout.called() if c[3] == verb) for verb in ("create", "ssh"))
    assert {"--accelerator-type=v5litepod-64", "--spot", "--zone=us-west4-a"} <= set(create)
    assert "--worker=all" in ssh
    assert shlex.join(["python", "-m", *TRAIN[:2]]) in ssh[-1] and "/mnt/runs/a\\ b" in ssh[-1]


@pytest.mark.parametrize(
    ("accelerator", "hosts"), [("v5litepod-8", "1"), ("v5litepod-16", "several"), ("v5p-8", "1")]
)
def test_the_workers_of_a_pod_are_told_whether_they_are_several(checkout, accelerator, hosts):
    done = checkout.run("tpu_pod.sh", "--dry-run", *TRAIN, **POD | {"ACCELERATOR": accelerator})
    assert f"SPARSE_JAX_HOSTS={hosts} " in done.stdout.replace("\\", "")


def test_a_pod_that_is_taken_away_is_asked_for_again(checkout):
    lost = "[ -f once ] || { touch once; echo SUSPENDED > there; exit 255; }"
    checkout.stand_in("gcloud", GCLOUD.replace("SSH", lost))
    done = checkout.run("tpu_pod.sh", *TRAIN, **POD)
    assert done.returncode == 0, done.stderr
    assert verbs(checkout) == ["create", "ssh", "delete", "create", "ssh", "delete"]


def test_on_a_pod_a_command_that_has_saved_goes_on_there(checkout):
    checkout.stand_in("gcloud", GCLOUD.replace("SSH", "[ -f once ] || { touch once; exit 75; }"))
    assert checkout.run("tpu_pod.sh", *TRAIN, **POD).returncode == 0
    assert verbs(checkout) == ["create", "ssh", "ssh", "delete"]


@pytest.mark.parametrize("status", [1, 2, 3])
def test_a_pod_is_given_back_after_a_failure(checkout, status):
    checkout.stand_in("gcloud", GCLOUD.replace("SSH", f"exit {status}"))
    assert checkout.run("tpu_pod.sh", *TRAIN, **POD).returncode == status
    assert verbs(checkout) == ["create", "ssh", "delete"]


@pytest.mark.parametrize("status", [4, 137, 255])
def test_a_pod_is_kept_where_only_the_connection_or_a_process_was_lost(checkout, status):
    checkout.stand_in("gcloud", GCLOUD.replace("SSH", f"[ -f once ] || {{ touch once; exit {status}; }}"))
    assert checkout.run("tpu_pod.sh", *TRAIN, **POD).returncode == 0
    assert verbs(checkout) == ["create", "ssh", "ssh", "delete"]


def test_starts_on_a_pod_are_counted(checkout):
    checkout.stand_in("gcloud", GCLOUD.replace("SSH", "exit 255"))
    assert checkout.run("tpu_pod.sh", *TRAIN, **POD, RESTARTS="1").returncode == 255
    assert verbs(checkout) == ["create", "ssh", "ssh", "delete"]


def test_a_gcloud_that_cannot_tell_is_not_taken_for_a_slice_that_is_not_there(checkout):
    checkout.stand_in("gcloud", "echo 'ERROR: PERMISSION_DENIED: no such right' >&2; exit 1")
    done = checkout.run("tpu_pod.sh", *TRAIN, **POD)
    assert done.returncode == 1
    assert done.stderr.startswith("error: gcloud cannot tell the state of run1: ERROR: PERMISSION_DENIED")
    assert verbs(checkout) == [] and len(checkout.called()) == 5


def test_a_refused_request_is_not_repeated(checkout):
    checkout.stand_in("gcloud", GCLOUD.replace("echo ACTIVE > there", "exit 1"))
    done = checkout.run("tpu_pod.sh", *TRAIN, **POD)
    assert done.returncode == 1 and "error: gcloud refuses the request" in done.stderr
    assert verbs(checkout) == ["create"]


def test_requests_that_fail_are_counted(checkout):
    checkout.stand_in("gcloud", GCLOUD.replace("ACTIVE", "FAILED"))
    done = checkout.run("tpu_pod.sh", *TRAIN, **POD, RESTARTS="2")
    assert done.returncode == 1 and "the slice was asked for 3 times" in done.stderr
    assert verbs(checkout) == ["create", "delete"] * 3


@contextlib.contextmanager
def starting_a_pod(checkout):
    """tpu_pod.sh in a process group of its own, as a terminal would start it."""
    running = subprocess.Popen(
        [sys.executable, "-c", HEEDS_CTRL_C, "bash", "launch/tpu_pod.sh", *TRAIN],
        cwd=checkout.root,
        env={"PATH": f"{checkout.bin}:{os.environ['PATH']}", **POD, "POLL": "1"},
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        yield running
    finally:
        running.kill()
        running.communicate()


@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGINT])
def test_waiting_for_a_slice_is_said_once_and_can_be_ended(checkout, sent):
    checkout.stand_in("gcloud", "echo WAITING_FOR_RESOURCES")
    with starting_a_pod(checkout) as running:
        said = running.stderr.readline()
        assert said == "waiting for the slice: its request is WAITING_FOR_RESOURCES\n"
        while len(checkout.called()) < 3:
            assert running.poll() is None
            time.sleep(0.01)
        os.killpg(running.pid, sent)
        assert running.wait(timeout=20) != 0
        assert "waiting" not in running.stderr.read()


def test_ctrl_c_leaves_the_slice_there_although_gcloud_handles_it_itself(checkout):
    """Else the script would take gcloud's end for that of the command, and give the slice back."""
    # it waits for a program in the background: one that is only just starting would miss the signal
    runs = "trap 'kill $!; exit 1' INT; sleep 60 & touch runs; wait"
    checkout.stand_in("gcloud", GCLOUD.replace("SSH", runs))
    with starting_a_pod(checkout) as running:
        while not (checkout.root / "runs").exists():
            assert running.poll() is None
            time.sleep(0.01)
        os.killpg(running.pid, signal.SIGINT)
        assert running.wait(timeout=20) == 130
    assert verbs(checkout) == ["create", "ssh"]
