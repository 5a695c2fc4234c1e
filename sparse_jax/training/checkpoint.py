"""Checkpoints by Orbax: parameters, optimizer state, data position, config and tokenizer together."""

import contextlib
import itertools
import json
import os
import shutil
import sys
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TypeVar

import jax
import optax
import orbax.checkpoint as ocp
from orbax.checkpoint import checkpoint_managers
from tokenizers import Tokenizer

from sparse_jax.inputs import InputError, first_line
from sparse_jax.model.config import ModelConfig
from sparse_jax.model.forward import Params, param_shapes
from sparse_jax.progress import finish_line
from sparse_jax.training.checksums import checksums
from sparse_jax.training.config import RunConfig, difference, run_config
from sparse_jax.training.lock import refuse_if_held
from sparse_jax.training.processes import ProcessError, is_first, meet
from sparse_jax.training.state import Position, TrainState

FORMAT = 2
READABLE = (1, FORMAT)  # 1 has no checksums, and nothing of its metrics is left to be written
CONFIG_NAME = "config.json"
# How long the slowest of several processes may take longer than the others to read a checkpoint.
READING_SECONDS = 1800
# Errors that say what they are, and are not the disk's: of the input, of other processes, of the devices.
_OTHER_ERRORS = (InputError, ProcessError, jax.errors.JaxRuntimeError)

Read = TypeVar("Read")


class DamagedError(InputError):
    """A checkpoint that cannot be read, or not as it was written."""


class _Manager(ocp.CheckpointManager):
    """Orbax's, which would tell JAX's preemption service numbers of its own, and so move where to stop."""

    def reached_preemption(self, step: int) -> bool:
        """No: `preemption.stop_requests` asks."""
        return False


class Checkpoints:
    """The checkpoints of one run, under `<workdir>/checkpoints/<step>`; newest kept, each whole.

    Every checkpoint can be used alone: it holds what is needed to run, resume or publish the model.
    """

    def __init__(self, workdir: Path, config: RunConfig, tokenizer: Tokenizer, fingerprint: str):
        """fingerprint: of the corpus (tokenizer and tokens), which resuming must find unchanged.

        Raises InputError if the directory cannot be written.
        """
        self._config, self._tokenizer, self._fingerprint = config, tokenizer, fingerprint
        self.directory = Path(workdir).absolute() / "checkpoints"
        kept = [checkpoint_managers.LatestN(config.training.keep_checkpoints)]
        if config.training.keep_every:
            kept.append(checkpoint_managers.EveryNSteps(config.training.keep_every))
        try:
            self._manager = _Manager(
                self.directory,
                options=ocp.CheckpointManagerOptions(
                    preservation_policy=checkpoint_managers.AnyPreservationPolicy(kept),
                    cleanup_tmp_directories=True,
                ),
            )
        except OSError as error:
            raise InputError(f"checkpoint: cannot write to {self.directory} ({first_line(error)})") from None

    @property
    def latest(self) -> int | None:
        """The newest checkpoint's step, which may still be on its way to the disk."""
        return self._manager.latest_step()

    def save(self, state: TrainState, position: Position) -> None:
        """Starts writing a checkpoint of `state`; the disk work goes on in the background.

        Raises InputError if this or the previous one cannot be written; older ones stay as they are.
        """
        optimizer = {"step": state.step, "state": state.opt_state}
        run = {
            "format": FORMAT,
            "config": self._config.to_json(),
            "tokenizer": self._tokenizer.to_str(),
            "corpus": self._fingerprint,
            "data": position.data,
            "rows": position.rows,
            "skipped": position.skipped,
            "checksums": checksums({"params": state.params, "optimizer": optimizer, "masks": position.masks}),
        }
        items = {
            "params": ocp.args.StandardSave(state.params),
            "optimizer": ocp.args.StandardSave(optimizer),
            "run": ocp.args.JsonSave({**run, "checksum": _checksum(run)}),
        }
        if position.masks is not None:
            items["masks"] = ocp.args.StandardSave(position.masks)
        self._guarded(lambda: self._manager.save(int(state.step), args=ocp.args.Composite(**items)))

    def wait(self) -> None:
        """Returns when everything is on the disk. Raises InputError if it could not be written."""
        self._guarded(self._manager.wait_until_finished)

    def restore(self, shapes: TrainState) -> tuple[TrainState, Position]:
        """The newest state that is whole, laid out as `shapes` (ShapeDtypeStructs with shardings) says.

        Newer ones, which are damaged, are set aside as `<step>.damaged` with a message. Raises InputError,
        and leaves all as it is, if none is whole, or one is of another format or other data.
        """
        damaged: dict[int, DamagedError] = {}
        for step in sorted(self._manager.all_steps(), reverse=True):
            try:
                found = self._read(step, shapes)
            except DamagedError as error:
                damaged[step] = error
                continue
            self._set_aside(damaged, step)
            return found
        newest, *_ = damaged.values()
        raise InputError(
            f"{newest}; none before it is whole (with {self.directory} moved away, the run starts anew)"
        )

    def _read(self, step: int, shapes: TrainState) -> tuple[TrainState, Position]:
        path = self.directory / str(step)
        # voted on first, so that nobody begins to restore together with a process that cannot
        run = _by_all(path, "reading what a checkpoint says of its run", lambda: _read_run(path))
        if run["corpus"] != self._fingerprint:
            raise InputError(
                f"data: the text has changed since {self.directory} was written (corpus "
                f"{run['corpus']} there, {self._fingerprint} here); valid: the same data, or a "
                "new workdir"
            )
        items = {
            "params": ocp.args.StandardRestore(shapes.params),
            "optimizer": ocp.args.StandardRestore({"step": shapes.step, "state": shapes.opt_state}),
        }
        if _of_items(run, ["masks"]):
            items["masks"] = ocp.args.StandardRestore(optax.tree.get(shapes.opt_state, "masks"))
        composite = ocp.args.Composite(**items)
        found = _by_all(path, "restoring a checkpoint", lambda: self._manager.restore(step, args=composite))
        _compare(path, run, {name: found[name] for name in items})
        params, optimizer = found["params"], found["optimizer"]
        rows = [tuple(row) for row in run.get("rows", [])]
        masks = found["masks"] if "masks" in items else None
        position = Position(run["data"], rows, run.get("skipped", 0), masks)
        return TrainState(optimizer["step"], params, optimizer["state"]), position

    def _set_aside(self, damaged: dict[int, DamagedError], good: int) -> None:
        for step, error in damaged.items():
            if is_first():
                aside = _unused(self.directory / f"{step}.damaged")
                (self.directory / str(step)).rename(aside)
                finish_line()
                sys.stderr.write(f"{error}; set aside as {aside.name}, going on from step {good}\n")
        if damaged:
            meet("setting damaged checkpoints aside", "")
            self._manager.reload()

    def close(self) -> None:
        """Waits for what is being written and lets go of the directory."""
        self.wait()
        self._manager.close()

    def _guarded(self, write) -> None:
        try:
            write()
        except _OTHER_ERRORS:
            raise
        except Exception as error:  # orbax and tensorstore wrap disk errors in types of their own
            with contextlib.suppress(Exception):
                self._manager.wait_until_finished()
            steps = ", ".join(map(str, sorted(self._complete_steps()))) or "none"
            raise InputError(
                f"checkpoint: cannot write to {self.directory} ({first_line(error)}; "
                f"{shutil.disk_usage(self.directory).free // 2**20} MiB free); complete steps there: {steps}"
            ) from error

    def _complete_steps(self) -> list[int]:
        return [int(path.name) for path in self.directory.iterdir() if path.name.isdigit()]


def read_run(workdir: Path, step: int | None = None) -> tuple[RunConfig, Tokenizer, int]:
    """Config, tokenizer and step of a checkpoint (default: the newest) under a workdir.

    Raises InputError if there is none, or none that this library wrote.
    """
    step = newest_step(workdir) if step is None else step
    path = _checkpoint_path(workdir, step)
    with _readable(path):
        run = _read_run(path)
        return run_config(json.loads(run["config"])), Tokenizer.from_str(run["tokenizer"]), step


def read_params(workdir: Path, config: ModelConfig, step: int) -> Params:
    """The parameters of a checkpoint, on one device. Raises InputError if they do not fit `config`."""
    path = _checkpoint_path(workdir, step)
    here = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    shapes = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=here), param_shapes(config)
    )
    with _readable(path):
        params = ocp.StandardCheckpointer().restore(path / "params", shapes)
        _compare(path, _read_run(path), {"params": params})
        return params


def newest_step(workdir: Path) -> int:
    """The newest complete step under a workdir. Raises InputError if it holds no checkpoint."""
    root = Path(workdir) / "checkpoints"
    steps = [int(p.name) for p in root.iterdir() if p.name.isdigit()] if root.is_dir() else []
    if not steps:
        raise InputError(f"checkpoint: none is complete in {root}; valid: a workdir of a training run")
    return max(steps)


def check_workdir(workdir: Path, config: RunConfig) -> None:
    """Raises InputError if `workdir` cannot hold this run: it cannot be written, another run lives there, or
    it is of a run with another config."""
    workdir = Path(workdir)
    for folder in (workdir, workdir / "checkpoints"):
        if folder.exists() and not folder.is_dir():
            raise InputError(f"workdir: {folder} is a file; valid: a directory, new or of this run")
        there = next(each for each in (folder, *folder.absolute().parents) if each.exists())
        if not os.access(there, os.W_OK | os.X_OK, effective_ids=True):
            raise InputError(f"workdir: {there} cannot be written; valid: a directory of yours")
    refuse_if_held(workdir)
    saved = workdir / CONFIG_NAME
    if not saved.exists():
        return
    try:
        old = run_config(json.loads(saved.read_text()))
    except (OSError, ValueError) as error:
        raise InputError(f"workdir: {saved} is not the config of a run ({first_line(error)})") from None
    changed = difference(old, config)
    if changed:
        raise InputError(f"workdir: {workdir} holds a run with another config ({changed}); valid: a new one")


def _checkpoint_path(workdir: Path, step: int) -> Path:
    return Path(workdir).absolute() / "checkpoints" / str(step)


def _read_run(path: Path) -> dict:
    """What a checkpoint says of its run. Raises InputError for a format that is not known here."""
    run = ocp.JsonCheckpointHandler().restore(path / "run")  # a Checkpointer would wait for other processes
    if run["format"] not in READABLE:
        valid = " or ".join(map(str, READABLE))
        raise InputError(f"checkpoint: {path} has format {run['format']!r}; valid: {valid}")
    if run["format"] == FORMAT and run.pop("checksum") != _checksum(run):
        raise DamagedError(f"checkpoint: {path / 'run'} is not as it was written")
    return run


def _of_items(run: dict, items: Iterable[str]) -> dict[str, int]:
    """The checksums that were written for the leaves of these items."""
    return {name: value for name, value in run.get("checksums", {}).items() if name.split("/")[0] in items}


def _compare(path: Path, run: dict, tree: dict[str, object]) -> None:
    """Raises DamagedError unless `tree` has just the leaves that were written, each with its checksum."""
    if "checksums" not in run:
        return
    written, found = _of_items(run, tree), checksums(tree)
    for name in sorted(written.keys() | found.keys()):
        if written.get(name) != found.get(name):
            raise DamagedError(f"checkpoint: {path} is damaged, {name} is not as it was written")


def _checksum(run: dict) -> int:
    return zlib.crc32(json.dumps(run, sort_keys=True).encode())


@contextlib.contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Turns whatever goes wrong while reading into one line that names the checkpoint."""
    try:
        yield
    except _OTHER_ERRORS:
        raise
    except Exception as error:  # a damaged file surfaces as any of a dozen types
        raise DamagedError(
            f"checkpoint: {path} cannot be read, it is truncated or not of this model "
            f"({first_line(error)}); valid: a complete checkpoint of this library"
        ) from error


def _by_all(path: Path, subject: str, read: Callable[[], Read]) -> Read:
    """What `read` gives; a checkpoint that one process cannot read is damaged for all of them."""
    found = failed = None
    try:
        with _readable(path):
            found = read()
    except DamagedError as error:
        failed = error
    said = meet(subject, "" if failed is None else "damaged", READING_SECONDS)
    if failed is not None:
        raise failed
    if any(said):
        raise DamagedError(f"checkpoint: {path} cannot be read by process {said.index('damaged')}")
    return found


def _unused(path: Path) -> Path:
    """`path`, or with a number behind it if that exists."""
    numbered = (path.with_name(f"{path.name}_{number}") for number in itertools.count(2))
    return next(each for each in itertools.chain([path], numbered) if not each.exists())
