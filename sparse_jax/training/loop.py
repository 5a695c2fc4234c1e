"""The loop around the pure step: data, metrics, evaluation, checkpoints, resume."""

import contextlib
import os
from pathlib import Path

import grain
import jax
import optax
from jax.sharding import Mesh

from sparse_jax.data.corpus import Corpus, prepare
from sparse_jax.data.loader import train_loader, validation_windows
from sparse_jax.files import write_whole
from sparse_jax.sparsity.optimizer import sparse_optimizer
from sparse_jax.training.checkpoint import CONFIG_NAME, Checkpoints, check_workdir
from sparse_jax.training.config import RunConfig, named_fields
from sparse_jax.training.evaluation import Evaluator
from sparse_jax.training.metrics import NonFiniteError, Recorder
from sparse_jax.training.pretrained import Pretrained
from sparse_jax.training.processes import ProcessError, agree, code_version, is_first, naming_lost
from sparse_jax.training.sharding import (
    batch_sharding,
    check_batch,
    make_mesh,
    on_one_device,
    own_rows,
    spread_batch,
    state_sharding,
)
from sparse_jax.training.state import TrainState, new_state
from sparse_jax.training.step import make_train_step
from sparse_jax.training.writers import JsonLinesWriter, TensorBoardWriter, Writer

# How long the slowest of several processes may take longer than the others to prepare its text.
PREPARING_SECONDS = 4 * 3600


def train(config: RunConfig, workdir: str | os.PathLike, label: str = "train") -> Pretrained:
    """Trains a model, or goes on where `workdir` stopped, and returns it.

    `workdir` gets config.json, tokenizer.json, metrics.jsonl and checkpoints/. A finished run is
    returned at once. Resuming gives the same losses, bit for bit, as never having stopped. Of several
    processes (`processes.start`) each calls this, on a `workdir` that all of them see; the first writes what
    is written once.

    Raises InputError for a config that cannot work, a workdir of another run, or processes that disagree,
    before any work, NonFiniteError when the loss blows up, and ProcessError when a process is lost.
    """
    workdir = Path(workdir)
    agree({"workdir": str(workdir), **code_version(), **named_fields(config)})
    check_workdir(workdir, config)
    training = config.training
    mesh = make_mesh(training.mesh_data, training.mesh_fsdp, training.mesh_tensor)
    check_batch(mesh, training.batch_size, training.accumulate)
    optimizer = sparse_optimizer(
        config.optimizer, config.sparsity, config.training.steps, frozen=config.model.frozen
    )

    def fresh() -> TrainState:
        return new_state(config.model, optimizer, config.training.seed)

    placed = _placed(mesh, jax.eval_shape(fresh))
    shardings = jax.tree.map(lambda leaf: leaf.sharding, placed)
    corpus = prepare(config.data, config.model.vocab_size)
    agree({"the text of the data": corpus.fingerprint}, PREPARING_SECONDS)
    rows = own_rows(batch_sharding(mesh), training.batch_size)
    loader = train_loader(corpus, training.batch_size, config.model.context, training.seed, rows)

    with (
        naming_lost(),
        _closed(Checkpoints(workdir, config, corpus.tokenizer, corpus.fingerprint)) as checkpoints,
    ):
        agree({"the newest checkpoint": checkpoints.latest})
        if checkpoints.latest is None:
            state = jax.jit(fresh, out_shardings=shardings)()
        else:
            state, position = checkpoints.restore(placed)
            loader.set_state(position)
        if is_first():
            _write_config(workdir, config, corpus)
        if int(state.step) < config.training.steps:
            evaluate = _evaluator(config, corpus, mesh)
            with _writers(config, workdir, int(state.step)) as writers:
                recorder = Recorder(config, evaluate, writers, label, state)
                state = _advance(config, optimizer, shardings, state, loader, recorder, checkpoints)
        params = on_one_device(state.params)
    return Pretrained(config.model, params, corpus.tokenizer, config, f"{workdir} at step {int(state.step)}")


def _advance(
    config: RunConfig,
    optimizer: optax.GradientTransformation,
    shardings: TrainState,
    state: TrainState,
    loader: grain.DatasetIterator,
    recorder: Recorder,
    checkpoints: Checkpoints,
) -> TrainState:
    """Trains from `state` to the last step; compiles once."""
    training = config.training
    spread = batch_sharding(shardings.step.mesh)
    rows = own_rows(spread, training.batch_size)
    step_function = jax.jit(
        make_train_step(config.model, optimizer, training.accumulate),
        in_shardings=(shardings, spread),
        out_shardings=(shardings, None),
        donate_argnums=0 if training.donate else (),
    )

    def due(step: int, every: int) -> bool:
        return step == training.steps or (every > 0 and step % every == 0)

    start = int(state.step)
    if start == 0:
        recorder.evaluation(0, state)
    for step in range(start + 1, training.steps + 1):
        tokens = spread_batch(spread, training.batch_size, rows, next(loader)["tokens"])
        state, metrics = step_function(state, tokens)
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
def _closed(checkpoints: Checkpoints):
    """Closes them at the end, unless that would wait for processes that are no more."""
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
    """Adds to a NonFiniteError from where the run can be taken up."""
    try:
        yield
    except NonFiniteError as error:
        checkpoints.wait()
        good = checkpoints.latest
        kept = "no checkpoint yet" if good is None else f"the last good checkpoint is step {good}"
        raise NonFiniteError(f"{error}; {kept} in {checkpoints.directory}") from None


def _placed(mesh: Mesh, shapes: TrainState) -> TrainState:
    """Shapes with the shardings that they get on `mesh`."""
    return jax.tree.map(
        lambda leaf, sharding: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding),
        shapes,
        state_sharding(mesh, shapes),
    )


def _evaluator(config: RunConfig, corpus: Corpus, mesh: Mesh) -> Evaluator:
    """Held-out windows of every source, rounded up to whole batches."""
    batch_size = config.training.batch_size
    count = -(-config.training.evaluation_windows // batch_size) * batch_size
    windows = {
        name: validation_windows(source.validation, count, config.model.context)
        for name, source in corpus.sources.items()
    }
    return Evaluator(config.model, windows, corpus.weights, batch_size, batch_sharding(mesh))


@contextlib.contextmanager
def _writers(config: RunConfig, workdir: Path, start: int):
    """The writers that the config asks for, closed at the end; none but in the first process."""
    writers: list[Writer] = []
    try:
        if is_first():
            writers.append(JsonLinesWriter(workdir / "metrics.jsonl", start))
        if is_first() and config.training.tensorboard:
            writers.append(TensorBoardWriter(workdir / "tensorboard"))
        yield writers
    finally:
        for writer in writers:
            writer.close()


def _write_config(workdir: Path, config: RunConfig, corpus: Corpus) -> None:
    """Puts config and tokenizer beside the metrics, for people; checkpoints carry their own copies."""
    write_whole(workdir / CONFIG_NAME, config.to_json())
    write_whole(workdir / "tokenizer.json", corpus.tokenizer.to_str())
