"""local.sh and processes.sh: how a run on one machine goes on, ends and is stopped."""

import os
import signal
import subprocess
import sys

import pytest

from tests.launch.checkout import HEEDS_CTRL_C, TRAIN


def test_on_one_machine_a_command_that_has_saved_goes_on(checkout):
    checkout.stand_in("python", "[ $(wc -l < calls) -gt 2 ] || exit 75")
    done = checkout.run("local.sh", *TRAIN)
    assert done.returncode == 0
    assert checkout.called() == [["-m", *TRAIN]] * 3


@pytest.mark.parametrize("status", [1, 2, 3, 127, 130])
def test_on_one_machine_a_failure_is_passed_on_at_once(checkout, status):
    checkout.stand_in("python", f"exit {status}")
    assert checkout.run("local.sh", *TRAIN).returncode == status
    assert len(checkout.called()) == 1


def test_restarts_are_counted(checkout):
    checkout.stand_in("python", "exit 75")
    assert checkout.run("local.sh", *TRAIN, RESTARTS="2").returncode == 75
    assert len(checkout.called()) == 3


def test_processes_know_each_other_and_write_apart(checkout):
    checkout.stand_in("python", 'echo "I am ${!#}"')
    done = checkout.run("processes.sh", *TRAIN, PROCESSES="3", PORT="4321", LOGS="logs")
    assert done.returncode == 0, done.stderr
    own = [["--coordinator=localhost:4321", "--processes=3", f"--process={i}"] for i in range(3)]
    assert sorted(checkout.called()) == [["-m", *TRAIN, *flags] for flags in own]
    for i in range(3):
        assert (checkout.root / f"logs/process_{i}.log").read_text() == f"I am --process={i}\n"


@pytest.mark.parametrize("status", [1, 3, 127])
def test_if_one_process_fails_the_others_are_ended(checkout, status):
    checkout.stand_in("python", f'[ "${{!#}}" != --process=1 ] || exit {status}; exec sleep 50')
    done = checkout.run("processes.sh", *TRAIN, PROCESSES="3")
    assert done.returncode == status
    assert f"a process ended with status {status}" in done.stderr


def test_processes_that_have_all_saved_go_on_together(checkout):
    checkout.stand_in("python", "[ $(wc -l < calls) -gt 2 ] || { sleep 0.5; exit 75; }")
    done = checkout.run("processes.sh", *TRAIN, PROCESSES="2")
    assert done.returncode == 0, done.stderr
    assert len(checkout.called()) == 4


@pytest.mark.parametrize(("script", "count"), [("local.sh", 1), ("processes.sh", 2)])
@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGINT])
def test_what_runs_is_told_to_stop_when_the_script_is_saves_and_is_not_started_again(
    checkout, script, count, sent
):
    saves = "trap 'sleep 0.5; touch saved$$; exit 75' TERM"
    checkout.stand_in("python", f"{saves}; touch up$$; while true; do sleep 0.1; done")
    running = subprocess.Popen(
        # a test-suite in the background ignores Ctrl-C, and so would all that it starts
        [sys.executable, "-c", HEEDS_CTRL_C, "bash", f"launch/{script}", *TRAIN],
        cwd=checkout.root,
        env={"PATH": f"{checkout.bin}:{os.environ['PATH']}"},
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    try:
        while len(list(checkout.root.glob("up*"))) < count:
            assert running.poll() is None
        os.killpg(running.pid, sent)  # as a terminal does
        assert running.wait(timeout=30) == 75
        assert len(list(checkout.root.glob("saved*"))) == len(checkout.called()) == count
    finally:
        running.kill()
        running.wait()
        running.stderr.close()
