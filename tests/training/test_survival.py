"""Runs that are told to stop, meet a bad batch, or go on with other devices: the same in the end."""

import dataclasses
import gc
import os
import re
import signal
import threading
import time
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental import multihost_utils
from jax.experimental.compilation_cache import compilation_cache

from sparse_jax.data.corpus import prepare
from sparse_jax.data.loader import train_loader
from sparse_jax.inputs import InputError
from sparse_jax.runtime import preemption, processes
from sparse_jax.runtime.preemption import Preempted, stop_requests
from sparse_jax.runtime.processes import ProcessError
from sparse_jax.runtime.writers import read_rows
from sparse_jax.training import loop, step
from sparse_jax.training.config import run_config
from sparse_jax.training.loop import train
from sparse_jax.training.nonfinite import NonFiniteError
from sparse_jax.training.resume import Checkpoints
from tests.programs import made_once
from tests.tiny_run import lean
from tests.training.test_loop import Killed, kill_after, measured, same_parameters


@pytest.fixture(scope="module", autouse=True)
def compiled_once(tmp_path_factory):
    """The runs of this module are all of one model, so each program is compiled once for all of them."""
    options = {
        "jax_compilation_cache_dir": str(tmp_path_factory.mktemp("compiled")),
        "jax_persistent_cache_min_compile_time_secs": 0.1,
        "jax_persistent_cache_min_entry_size_bytes": -1,
    }
    before = {name: getattr(jax.config, name) for name in options}
    for name, value in options.items():
        jax.config.update(name, value)
    compilation_cache.reset_cache()
    yield
    for name, value in before.items():
        jax.config.update(name, value)
    compilation_cache.reset_cache()


@pytest.fixture(scope="module", autouse=True)
def programs_once():
    """Runs of one config share their program. Batches are only spoilt for runs that may skip some."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "train_program", made_once(loop.train_program))
        yield


@pytest.fixture(scope="module")
def short(directory):
    """Rows, evaluations and checkpoints at different steps, so that a stop hardly falls on one of them."""
    mapping = lean(directory)
    mapping["model"].update(n_layers=1)
    mapping["training"].update(steps=9, log_every=2, evaluate_every=3, checkpoint_every=4)
    return run_config(mapping)


@pytest.fixture(scope="module")
def whole(short, tmp_path_factory):
    """The parameters and rows of a run that nothing happened to, and its workdir."""
    workdir = tmp_path_factory.mktemp("whole")
    return train(short, workdir).params, measured(workdir), workdir


@pytest.mark.slow
def test_a_run_that_is_told_to_stop_saves_and_goes_on_bit_for_bit(short, whole, tmp_path, monkeypatch):
    def send(number):
        return lambda: os.kill(os.getpid(), number)

    handlers = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
    with monkeypatch.context() as patch:
        kill_after(patch, 4, send(signal.SIGTERM))
        said = re.escape(
            f"SIGTERM: stopped after step 5, which is saved in {tmp_path / 'run' / 'checkpoints'};"
        )
        with pytest.raises(Preempted, match=said):
            train(short, tmp_path / "run")
    assert measured(tmp_path / "run") == [row for row in whole[1] if row["step"] < 5]
    with monkeypatch.context() as patch:
        kill_after(patch, 1, send(signal.SIGINT))
        with pytest.raises(KeyboardInterrupt):
            train(short, tmp_path / "run")
    assert handlers == [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
    steps = {path.name for path in (tmp_path / "run" / "checkpoints").iterdir()}
    assert {"5", "7"} <= steps
    assert same_parameters(train(short, tmp_path / "run").params, whole[0])
    assert measured(tmp_path / "run") == whole[1]


@pytest.fixture
def interruptible():
    """A shell's background jobs are deaf to Ctrl-C."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
def test_a_second_signal_acts_at_once_and_other_threads_hear_none():
    with pytest.raises(KeyboardInterrupt), stop_requests() as asked:
        assert asked() is None
        os.kill(os.getpid(), signal.SIGINT)
        assert asked() is asked() is signal.SIGINT
        os.kill(os.getpid(), signal.SIGINT)
    heard = []

    def elsewhere():
        with stop_requests() as asked:
            heard.append(asked())

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert heard == [None]


BAD = (2, 6)


def spoil(monkeypatch, config, batches=BAD):
    """The loss of these batches becomes NaN in every run from here on; returns their tokens."""
    corpus = prepare(config.data, config.model.vocab_size)
    loader = train_loader(corpus, config.training.batch_size, config.model.context, config.training.seed)
    tokens = [next(loader)["tokens"] for _ in range(max(batches) + 1)]
    marks = jnp.array([np.float64(tokens[batch]).sum() for batch in batches])
    original = step.next_token_loss

    def spoilt(config, params, tokens, **options):
        return jnp.where(jnp.any(tokens.sum() == marks), jnp.nan, original(config, params, tokens, **options))

    monkeypatch.setattr(step, "next_token_loss", spoilt)
    return [tokens[batch] for batch in batches]


def leave_out(monkeypatch, batches=BAD):
    """The truth about skipping: a loader that has never had these batches."""
    original = loop.train_loader

    class Without:
        def __init__(self, loader):
            self.loader = loader

        def __getattr__(self, name):
            return getattr(self.loader, name)

        def __next__(self):
            while self.loader.get_state()["next_index"] in batches:
                next(self.loader)
            return next(self.loader)

    monkeypatch.setattr(loop, "train_loader", lambda *args, **options: Without(original(*args, **options)))


def skipping(config, batches):
    training = dataclasses.replace(config.training, skip_nonfinite=batches)
    return dataclasses.replace(config, training=training)


def test_bad_batches_are_left_out_kept_for_study_and_change_nothing_else(short, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        leave_out(patch)
        without = train(short, tmp_path / "without").params
    tokens = spoil(monkeypatch, short)
    with monkeypatch.context() as patch, pytest.raises(Killed):
        kill_after(patch, 9)  # both are skipped by then, and the second is not yet part of a checkpoint
        train(skipping(short, 2), tmp_path / "run")
    with monkeypatch.context() as patch:
        kill_after(patch, 2, lambda: os.kill(os.getpid(), signal.SIGTERM))
        with pytest.raises(Preempted, match="stopped after step 6"):  # batches 5, 6 (bad) and 7 of it
            train(skipping(short, 2), tmp_path / "run")
    assert same_parameters(train(skipping(short, 2), tmp_path / "run").params, without)
    assert measured(tmp_path / "run") == measured(tmp_path / "without")
    folder = tmp_path / "run" / "nonfinite"
    assert sorted(os.listdir(folder)) == ["batch_2.npz", "batch_6.npz"]
    for batch, made, rows in zip(BAD, (3, 6), tokens):
        with np.load(folder / f"batch_{batch}.npz") as file:
            np.testing.assert_array_equal(file["tokens"], rows)
            np.testing.assert_array_equal(file["rows"], 4 * batch + np.arange(4))
            assert (file["batch"], file["step"]) == (batch, made) and np.isnan(file["loss"])


def test_the_service_of_several_processes_is_told_numbers_that_only_grow(short, tmp_path, monkeypatch):
    """Else processes that stand before and after a skipped batch could each stop at "step 6"."""
    told = []
    several = types.SimpleNamespace(distributed=types.SimpleNamespace(is_initialized=lambda: True))
    spoil(monkeypatch, short)
    monkeypatch.setattr(preemption, "jax", several)
    # for Orbax too, which by itself would tell the step at every save
    monkeypatch.setattr(multihost_utils, "reached_preemption_sync_point", told.append)
    train(skipping(short, 2), tmp_path / "run")
    assert told == list(range(told[0], told[0] + 9 + len(BAD)))


def test_a_lost_process_is_named_before_anything_waits_for_it(short, tmp_path, monkeypatch):
    def lost():
        raise jax.errors.JaxRuntimeError("a connection was closed\nhere and there")

    def meet(subject, word, seconds=0):
        if subject == "after an error of the devices":
            raise ProcessError("process 1 is gone")
        return [word]

    monkeypatch.setattr(processes, "meet", meet)
    monkeypatch.setattr(Checkpoints, "close", lambda _: pytest.fail("this would wait for process 1"))
    kill_after(monkeypatch, 3, lost)
    with pytest.raises(ProcessError, match=r"^process 1 is gone \(a connection was closed\)$"):
        train(short, tmp_path / "run")


def test_at_the_end_only_parameters_are_on_a_device(short, whole, monkeypatch):
    gc.collect()
    before, left, original = jax.live_arrays(), [], loop.Model

    def recorded(*arguments):
        known = {id(array) for array in before}
        left.extend(array.nbytes for array in jax.live_arrays() if id(array) not in known)
        return original(*arguments)

    monkeypatch.setattr(loop, "Model", recorded)
    params = train(short, whole[2]).params
    assert sum(left) == sum(leaf.nbytes for leaf in jax.tree.leaves(params))


def test_one_bad_batch_more_than_allowed_stops_the_run_which_can_go_on_when_more_are(
    short, tmp_path, monkeypatch
):
    spoil(monkeypatch, short)
    with pytest.raises(NonFiniteError, match="step 6 gave loss nan .*batch_6.npz.*skip_nonfinite=2.*step 4"):
        train(skipping(short, 1), tmp_path / "run")
    assert (tmp_path / "run" / "nonfinite" / "batch_6.npz").exists()
    train(skipping(short, 2), tmp_path / "run")
    assert [row["step"] for row in measured(tmp_path / "run") if "loss" in row] == [2, 3, 4, 6, 8, 9]


@pytest.mark.slow
def test_a_run_goes_on_on_another_mesh(short, whole, tmp_path, monkeypatch):
    with monkeypatch.context() as patch, pytest.raises(Killed):
        kill_after(patch, 6)
        train(short, tmp_path / "run")
    assert read_rows(tmp_path / "run" / "metrics.jsonl")[-1]["step"] == 6
    training = dataclasses.replace(short.training, mesh_data=2, mesh_fsdp=2)
    params = train(dataclasses.replace(short, training=training), tmp_path / "run").params
    # steps are of about 0.02 an entry, and every one may turn at a rounding where a mask is decided
    for found, expected in zip(jax.tree.leaves(params), jax.tree.leaves(whole[0])):
        np.testing.assert_allclose(found, expected, atol=2e-4)


def test_a_full_disk_is_named_and_the_run_goes_on_when_there_is_room(short, whole, tmp_path, monkeypatch):
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    original = Checkpoints.save_state

    def short_of_room(self, state, position):
        if int(state.step) != 8:
            return original(self, state, position)
        self.wait()
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))
        try:
            original(self, state, position)
            self.wait()
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)

    with monkeypatch.context() as patch:
        patch.setattr(Checkpoints, "save_state", short_of_room)
        with pytest.raises(InputError, match="checkpoint: cannot write .*complete steps there: 4"):
            train(short, tmp_path / "run")
    gc.collect()  # here, not at some later test, asyncio complains of writes that nobody waits for
    # threads of the save that failed still remove their locks, which a new process would not meet
    deadline = time.monotonic() + 10
    while any((tmp_path / "run").rglob("*.__lock")) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert same_parameters(train(short, tmp_path / "run").params, whole[0])
    assert measured(tmp_path / "run") == whole[1]
