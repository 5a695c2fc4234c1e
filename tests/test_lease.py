"""A lock in a bucket: one holder, who is named; one that is dead is replaced, and notices if it was not."""

import json
import threading
import time

import pytest

from sparse_jax import lease
from sparse_jax.files import user_path, write_whole
from sparse_jax.inputs import InputError
from sparse_jax.runtime import lock
from tests.storage_server import Refused

SECONDS = 1.0  # machines that run tests stop for a while now and then


@pytest.fixture(autouse=True)
def soon(monkeypatch):
    monkeypatch.setattr(lease, "LEASE_SECONDS", SECONDS)


@pytest.fixture
def path(bucket):
    return user_path(f"{bucket}/run/.lock")


def left_by_a_dead_process(path):
    write_whole(path, json.dumps({"holder": "process 7 on there", "token": "x"}))


def test_one_holds_it_and_is_named(path):
    with lease.held(path) as held:
        with pytest.raises(lease.Held, match=r"^process \d+ on "):
            lease.take(path)
        time.sleep(1.3 * SECONDS)  # longer than an object that nobody writes would count
        held.require()
        with pytest.raises(
            InputError, match=f"workdir: {path.parent} is in use by process .*; valid: another"
        ):
            lock.refuse_if_held(path.parent)
        with pytest.raises(InputError, match="is in use by process"), lock.held(path.parent):
            raise AssertionError
    assert not path.exists()
    with lock.held(path.parent) as still_held:
        still_held()
        assert path.exists()
    assert not path.exists()


def test_that_of_a_dead_process_is_taken_over_and_not_before(path, capsys):
    left_by_a_dead_process(path)
    began = time.monotonic()
    with lease.held(path):
        assert time.monotonic() - began >= SECONDS
        assert lease.holder(path) != "process 7 on there"
    assert (
        f"{path}: of process 7 on there; waiting up to 1 s to see whether that lives"
        in capsys.readouterr().err
    )


def test_what_a_dead_run_has_left_is_waited_for_once(path):
    left_by_a_dead_process(path)
    lock.refuse_if_held(path.parent)
    began = time.monotonic()
    with lock.held(path.parent):
        assert time.monotonic() - began < 0.7 * SECONDS


def test_of_two_that_take_over_one_wins(path):
    left_by_a_dead_process(path)
    taken, refused = [], []

    def take():
        try:
            taken.append(lease.take(path))
        except lease.Held:
            refused.append(1)

    threads = [threading.Thread(target=take) for _ in range(4)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert len(taken) == 1 and len(refused) == 3
    taken[0].end()


def test_one_that_waits_gets_it_in_the_end(path):
    first, said = lease.take(path), []
    threading.Timer(1.3 * SECONDS, first.end).start()
    began = time.monotonic()
    with lease.held(path, said.append):
        assert time.monotonic() - began > SECONDS and len(said) == 1 and said[0].startswith("process ")


def test_a_holder_that_was_replaced_notices_before_it_writes(storage, path):
    held = lease.take(path)
    left_by_a_dead_process(path)  # as another process does that found it too old
    time.sleep(0.7 * SECONDS)
    with pytest.raises(
        InputError, match=f"{path}: taken over by process 7 on there, as this one did not write"
    ):
        held.require()
    held.end()
    assert lease.holder(path) == "process 7 on there"


def test_a_holder_cut_off_from_the_bucket_does_not_write(storage, path):
    held = lease.take(path)

    def before(*_):
        raise Refused(403, "cut off")

    storage.before = before
    time.sleep(1.3 * SECONDS)
    with pytest.raises(InputError, match=f"{path}: cannot be written .*cut off"):
        held.require()
    storage.before = lambda *_: None
    held.require()  # nobody else was there
    held.end()


def test_a_lost_answer_is_not_taken_for_another_holder(path, monkeypatch):
    write = type(path).write_bytes

    def twice(self, content, replaces=None):
        """As the client does, if the answer to its first try was lost."""
        write(self, content, replaces)
        return write(self, content, replaces)

    monkeypatch.setattr(type(path), "write_bytes", twice)
    with lease.held(path) as held:
        time.sleep(0.7 * SECONDS)
        held.require()


def test_what_is_no_lock_is_one_of_another_process(path):
    write_whole(path, "[]")
    assert lease.holder(path) == "another process"
