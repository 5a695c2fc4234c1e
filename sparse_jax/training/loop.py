"""The loop around the pure step: data, metrics, evaluation, checkpoints, resume."""

import contextlib
import os
from pathlib import Path

import grain
import jax
from jax.sharding import NamedSharding

from sparse_jax.data.corpus import Corpus, prepare
from sparse_jax.data.loader import train_loader, validation_windows
from sparse_jax.files import write_whole
from sparse_jax.training.checkpoint import CONFIG_NAME, Checkpoints, check_workdir
from sparse_jax.training.config import RunConfig
from sparse_jax.training.evaluation import Evaluator
from sparse_jax.training.metrics import NonFiniteError, Recorder
from sparse_jax.training.pretrained import Pretrained
from sparse_jax.training.program import TrainProgram, train_program
from sparse_jax.training.state import TrainState
from sparse_jax.training.writers import JsonLinesWriter, TensorBoardWriter, Writer


def train(config: RunConfig, workdir: str | os.PathLike, label: str = "train") -> Pretrained:
    """Trains a model, or goes on where `workdir` stopped, and returns it.

    `workdir` gets config.json, tokenizer.json, metrics.jsonl and checkpoints/. A finished run is
    returned at once. Resuming gives the same losses, bit for bit, as never having stopped.

    Raises InputError for a config that cannot work or a workdir of another run, before any work, and
    NonFiniteError when the loss blows up.
    """
    workdir = Path(workdir)
    check_workdir(workdir, config)
    program = train_program(config)
    corpus = prepare(config.data, config.model.vocab_size)
    loader = train_loader(
        corpus,
        config.training.batch_size,
        config.model.context,
        config.training.seed,
        process_index=jax.process_index(),
        process_count=jax.process_count(),
    )

    with contextlib.closing(
        Checkpoints(workdir, config, corpus.tokenizer, corpus.fingerprint)
    ) as checkpoints:
        if checkpoints.latest is None:
            state = jax.jit(program.fresh, out_shardings=program.shardings)()
        else:
            state, position = checkpoints.restore(program.placed)
            loader.set_state(position)
        _write_config(workdir, config, corpus)
        if int(state.step) < config.training.steps:
            evaluate = _evaluator(config, corpus, program.rows)
            with _writers(config, workdir, int(state.step)) as writers:
                recorder = Recorder(config, evaluate, writers, label, state)
                state = _advance(config, program, state, loader, recorder, checkpoints)
    params = jax.device_put(state.params, jax.local_devices()[0])
    return Pretrained(config.model, params, corpus.tokenizer, config, f"{workdir} at step {int(state.step)}")


def _advance(
    config: RunConfig,
    program: TrainProgram,
    state: TrainState,
    loader: grain.DatasetIterator,
    recorder: Recorder,
    checkpoints: Checkpoints,
) -> TrainState:
    """Trains from `state` to the last step; compiles once."""
    training = config.training

    def due(step: int, every: int) -> bool:
        return step == training.steps or (every > 0 and step % every == 0)

    start = int(state.step)
    if start == 0:
        recorder.evaluation(0, state)
    for step in range(start + 1, training.steps + 1):
        tokens = jax.make_array_from_process_local_data(program.rows, next(loader)["tokens"])
        state, metrics = program.step(state, tokens)
        recorder.add(metrics)
        evaluate, save = due(step, training.evaluate_every), due(step, training.checkpoint_every)
        if evaluate or save or due(step, training.log_every):
            with _naming_last_good(checkpoints):
                recorder.training(step)
        if evaluate or save:  # what cannot be evaluated is no good checkpoint
            with _naming_last_good(checkpoints):
                recorder.evaluation(step, state)
        if save:
            checkpoints.save(state, loader.get_state())
    recorder.done()
    return state


@contextlib.contextmanager
def _naming_last_good(checkpoints: Checkpoints):
    """Adds to a NonFiniteError from where the run can be taken up."""
    try:
        yield
    except NonFiniteError as error:
        checkpoints.wait()
        good = checkpoints.latest
        kept = "no checkpoint yet" if good is None else f"the last good checkpoint is step {good}"
        raise NonFiniteError(f"{error}; {kept} in {checkpoints.directory}") from None


def _evaluator(config: RunConfig, corpus: Corpus, rows: NamedSharding) -> Evaluator:
    """Held-out windows of every source, rounded up to whole batches."""
    batch_size = config.training.batch_size
    count = -(-config.training.evaluation_windows // batch_size) * batch_size
    windows = {
        name: validation_windows(source.validation, count, config.model.context)
        for name, source in corpus.sources.items()
    }
    return Evaluator(config.model, windows, corpus.weights, batch_size, rows)


@contextlib.contextmanager
def _writers(config: RunConfig, workdir: Path, start: int):
    """The writers that the config asks for, closed at the end."""
    writers: list[Writer] = []
    try:
        writers.append(JsonLinesWriter(workdir / "metrics.jsonl", start))
        if config.training.tensorboard:
            writers.append(TensorBoardWriter(workdir / "tensorboard"))
        yield writers
    finally:
        for writer in writers:
            writer.close()


def _write_config(workdir: Path, config: RunConfig, corpus: Corpus) -> None:
    """Puts config and tokenizer beside the metrics, for people; checkpoints carry their own copies."""
    write_whole(workdir / CONFIG_NAME, config.to_json())
    write_whole(workdir / "tokenizer.json", corpus.tokenizer.to_str())
