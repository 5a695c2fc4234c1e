"""The loop around the pure step: data, metrics, evaluation, checkpoints, resume."""

import contextlib
import json
import os
import signal
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import grain
import jax
import numpy as np
from tokenizers import Tokenizer

from sparse_jax.data.corpus import Corpus, prepare
from sparse_jax.data.loader import train_loader, validation_windows
from sparse_jax.files import user_path, write_whole
from sparse_jax.model.forward import Params
from sparse_jax.models.model import Model
from sparse_jax.models.room import require_room
from sparse_jax.runtime.lock import held
from sparse_jax.runtime.memory import held_bytes
from sparse_jax.runtime.preemption import Preempted, stop_requests
from sparse_jax.runtime.processes import ProcessError, agree, code_version, is_first, naming_lost
from sparse_jax.runtime.writers import TensorBoardWriter, Writer, lines_writer
from sparse_jax.training.config import RunConfig, TrainConfig, named_fields
from sparse_jax.training.nonfinite import BadBatches, NonFiniteError
from sparse_jax.training.program import TrainProgram, train_program
from sparse_jax.training.recorder import Recorder
from sparse_jax.training.resume import CONFIG_NAME, Checkpoints, check_config, check_workdir
from sparse_jax.training.sharding import on_host, own_rows, spread_batch
from sparse_jax.training.state import Position, TrainState

# How much longer than the others the slowest process may take to prepare its text.
PREPARING_SECONDS = 4 * 3600


class Trained(NamedTuple):
    """What a run ends with: its last step, the parameters on the host, the tokenizer of its text."""

    step: int
    params: Params
    tokenizer: Tokenizer


def train(config: RunConfig, workdir: str | os.PathLike, label: str = "train") -> Model:
    """Trains a model, or resumes the run in `workdir`, and returns it.

    `workdir` gets config.json, tokenizer.json, metrics.jsonl and checkpoints/. The model of a finished run is
    returned at once. On the same mesh, a resumed run gives the same losses, bit for bit, as an uninterrupted
    one. A damaged checkpoint is set aside, and the one before it is used. If a run has several processes
    (`joining.start`), all call this with a `workdir` that all of them see; process 0 writes the files.

    Raises InputError for a config that cannot work, a workdir of another run, a model that memory cannot
    hold, or processes that disagree, before any work, NonFiniteError when the loss blows up, and ProcessError
    when a process is lost. On SIGTERM (or, in a lone process, a first Ctrl-C) the step is finished and saved,
    then Preempted (KeyboardInterrupt) is raised.
    """
    step, params, tokenizer = run_program(config, train_program, workdir, label)
    params = jax.device_put(params, jax.local_devices()[0])
    run = json.loads(config.to_json())
    return Model(config.model, params, tokenizer, f"{user_path(workdir)} at step {step}", run)


def run_program(
    config: RunConfig, make: Callable[[Any], TrainProgram], workdir: str | os.PathLike, label: str
) -> Trained:
    """Runs the program that `make` makes of `config` to its last step, or resumes it; `train` says how."""
    workdir = user_path(workdir, "workdir")
    agree({"workdir": str(workdir), **code_version(), **named_fields(config)})
    check_workdir(workdir, config)
    training = config.training
    program = make(config)
    _require_room(config, program)
    corpus = prepare(config.data, config.model.vocab_size)
    agree({"the text of the data": corpus.fingerprint}, PREPARING_SECONDS)
    rows = own_rows(program.rows, training.batch_size)
    loader = train_loader(corpus, training.batch_size, config.model.context, training.seed, rows)

    with (
        naming_lost(),
        held(workdir) as still_held,
        _closed(Checkpoints(workdir, config, corpus.tokenizer, corpus.fingerprint)) as checkpoints,
        naming_lost(),  # here too: otherwise closing the checkpoints would wait for a lost process
    ):
        check_config(workdir, config)  # again: another command may have started a run meanwhile
        agree({"the newest checkpoint": checkpoints.latest})
        state = _last_state(config, workdir, label, program, corpus, loader, checkpoints, still_held)
        step, params = int(state.step), on_host(state.params)
        del state  # frees the sharded state before whole parameters are put on a device
    return Trained(step, params, corpus.tokenizer)


def _require_room(config: RunConfig, program: TrainProgram) -> None:
    """Raises InputError if memory cannot hold what every step has to, whatever its activations take."""
    state = program.placed
    states = 1 if config.training.donate else 2
    # all gradients are there before one of them is used
    needed = states * held_bytes(state) + held_bytes(state.params)
    devices = list(program.mesh.local_devices)
    require_room(config.model, needed, devices, "parameters, gradients and optimizer state")


def _last_state(
    config: RunConfig,
    workdir: Path,
    label: str,
    program: TrainProgram,
    corpus: Corpus,
    loader: grain.DatasetIterator,
    checkpoints: Checkpoints,
    still_held: Callable[[], None],
) -> TrainState:
    """Starts afresh or from the newest checkpoint, and trains to the end."""
    if checkpoints.latest is None:
        state = program.start()
        position = Position(loader.get_state())
    else:
        state, position = checkpoints.restore_state(program.placed)
        loader.set_state(position.data)
    if is_first():
        _write_config(workdir, config, corpus)
    if int(state.step) < config.training.steps and not position.ended:
        evaluate = program.evaluator(_windows(config, corpus), corpus.weights)
        bad = _bad_batches(config, corpus, workdir, position.skipped)
        with _writers(config, workdir, int(state.step), still_held) as writers:
            recorder = Recorder(config, evaluate, writers, label, bad, state, position)
            state = _advance(config, program, state, loader, recorder, checkpoints, still_held)
    return state


def _advance(
    config: RunConfig,
    program: TrainProgram,
    state: TrainState,
    loader: grain.DatasetIterator,
    recorder: Recorder,
    checkpoints: Checkpoints,
    still_held: Callable[[], None],
) -> TrainState:
    """Trains from `state` to the last step, or to the loss that is wanted; compiles once."""
    training = config.training
    step = int(state.step)
    # traced in this thread: what a user sets for a block of code, such as a precision, holds for one thread
    lowered = program.step.lower(program.placed, program.tokens, *program.constants)
    with ThreadPoolExecutor(1) as beside:
        compiling = beside.submit(lowered.compile)
        if step == 0:
            recorder.evaluation(0, state)  # this computes and the step compiles, on other cores
        run = compiling.result()
    with stop_requests() as asked, _naming_last_good(checkpoints):
        while step < training.steps and not recorder.ended:
            tokens = spread_batch(program.rows, training.batch_size, next(loader)["tokens"])
            state, metrics = run(state, tokens, *program.constants)
            recorder.add(metrics)
            step += 1
            stop, due = asked(), _due(training, step)
            if not due and stop is None:
                continue
            made = recorder.settle(step)
            if made < step:  # batches were skipped: what is due comes later, and what was due is done
                step, due = made, frozenset()
            if due:
                recorder.training(step)
            if due & {"evaluate", "save"}:  # a state that cannot be evaluated must not be saved
                recorder.evaluation(step, state)
            saved = "save" in due or recorder.ended
            if saved or (stop is not None and checkpoints.latest != step):
                still_held()
                recorder.flush()
                checkpoints.save_state(state, recorder.position(step, loader.get_state()))
            if stop is not None:
                _stop(stop, step, checkpoints)
    recorder.done()
    return state


def _due(training: TrainConfig, step: int) -> frozenset[str]:
    """What to do after a step; after the last one, everything."""
    every = {
        "log": training.log_every,
        "evaluate": training.evaluate_every,
        "save": training.checkpoint_every,
    }
    return frozenset(name for name, n in every.items() if step == training.steps or (n > 0 and step % n == 0))


def _stop(asked: signal.Signals, step: int, checkpoints: Checkpoints) -> None:
    """Raises the exception for the signal `asked`, once everything is on disk."""
    checkpoints.wait()
    if asked == signal.SIGINT:
        raise KeyboardInterrupt
    raise Preempted(
        f"{asked.name}: stopped after step {step}, which is saved in {checkpoints.directory}; "
        "the same command continues from there"
    )


@contextlib.contextmanager
def _closed(checkpoints: Checkpoints):
    """Closes the checkpoints at the end, unless that would wait for dead processes."""
    try:
        yield checkpoints
    except ProcessError:
        raise
    except BaseException:
        checkpoints.close()
        raise
    checkpoints.close()


@contextlib.contextmanager
def _naming_last_good(checkpoints: Checkpoints):
    """Adds to a NonFiniteError the checkpoint from which the run can be resumed."""
    try:
        yield
    except NonFiniteError as error:
        checkpoints.wait()
        good = checkpoints.latest
        kept = "no checkpoint yet" if good is None else f"the last good checkpoint is step {good}"
        raise NonFiniteError(f"{error}; {kept} in {checkpoints.directory}") from None


def _windows(config: RunConfig, corpus: Corpus) -> dict[str, np.ndarray]:
    """Held-out windows of every source, rounded up to whole batches."""
    batch_size = config.training.batch_size
    count = -(-config.training.evaluation_windows // batch_size) * batch_size
    return {
        name: validation_windows(source.validation, count, config.model.context)
        for name, source in corpus.sources.items()
    }


def _bad_batches(config: RunConfig, corpus: Corpus, workdir: Path, skipped: int) -> BadBatches:
    """Handles batches with non-finite results; to be kept, they are read again as a whole."""
    training = config.training

    def read(batch: int) -> np.ndarray:
        again = train_loader(corpus, training.batch_size, config.model.context, training.seed)
        again.set_state({"next_index": batch})
        return next(again)["tokens"]

    return BadBatches(workdir, training.skip_nonfinite, skipped, read)


@contextlib.contextmanager
def _writers(config: RunConfig, workdir: Path, start: int, still_held: Callable[[], None]):
    """The writers that the config asks for, closed at the end; none in processes other than 0."""
    writers: list[Writer] = []
    try:
        if is_first():
            writers.append(lines_writer(workdir / "metrics.jsonl", start, still_held))
        if is_first() and config.training.tensorboard:
            writers.append(TensorBoardWriter(workdir / "tensorboard"))
        yield writers
    finally:
        for writer in writers:
            writer.close()


def _write_config(workdir: Path, config: RunConfig, corpus: Corpus) -> None:
    """Writes config and tokenizer next to the metrics, for people; checkpoints have their own copies."""
    write_whole(workdir / CONFIG_NAME, config.to_json())
    write_whole(workdir / "tokenizer.json", corpus.tokenizer.to_str())
