"""Checkpoints by Orbax: named trees and facts of a run, each checkpoint whole, with a checksum a leaf."""

import contextlib
import itertools
import json
import shutil
import sys
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import jax
import orbax.checkpoint as ocp
from orbax.checkpoint import checkpoint_managers

from sparse_jax.inputs import InputError, first_line
from sparse_jax.progress import finish_line
from sparse_jax.runtime.checksums import checksums
from sparse_jax.runtime.processes import ProcessError, is_first, meet

FORMAT = 2
READABLE = (1, FORMAT)  # 1 has no checksums, and nothing of its metrics is left to be written
# How long the slowest of several processes may take longer than the others to read a checkpoint.
READING_SECONDS = 1800
# Errors that say what they are, and are not the disk's: of the input, of other processes, of the devices.
_OTHER_ERRORS = (InputError, ProcessError, jax.errors.JaxRuntimeError)

Read = TypeVar("Read")
# JSON values by name: what a checkpoint says of its run beside the trees.
Facts = dict[str, Any]


class DamagedError(InputError):
    """A checkpoint that cannot be read, or not as it was written."""


class _Manager(ocp.CheckpointManager):
    """Orbax's, which would tell JAX's preemption service numbers of its own, and so move where to stop."""

    def reached_preemption(self, step: int) -> bool:
        """No: `preemption.stop_requests` asks."""
        return False


class CheckpointStore:
    """The checkpoints of one run, under `<workdir>/checkpoints/<step>`; newest kept, each whole.

    Every checkpoint can be used alone: trees of arrays by name, and facts as JSON.
    """

    def __init__(self, workdir: Path, keep: int, keep_every: int = 0):
        """keep: how many of the newest stay; of the others those at a multiple of `keep_every` (0: none).

        Raises InputError if the directory cannot be written.
        """
        self.directory = Path(workdir).absolute() / "checkpoints"
        kept = [checkpoint_managers.LatestN(keep)]
        if keep_every:
            kept.append(checkpoint_managers.EveryNSteps(keep_every))
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

    def save(self, step: int, trees: Mapping[str, Any], facts: Facts) -> None:
        """Starts writing a checkpoint; the disk work goes on in the background.

        Raises InputError if this or the previous one cannot be written; older ones stay as they are.
        """
        run = {"format": FORMAT, **facts, "checksums": checksums(dict(trees))}
        items = {name: ocp.args.StandardSave(tree) for name, tree in trees.items()}
        items["run"] = ocp.args.JsonSave({**run, "checksum": _checksum(run)})
        self._guarded(lambda: self._manager.save(step, args=ocp.args.Composite(**items)))

    def wait(self) -> None:
        """Returns when everything is on the disk. Raises InputError if it could not be written."""
        self._guarded(self._manager.wait_until_finished)

    def restore(self, shapes_for: Callable[[Facts], Mapping[str, Any]]) -> tuple[dict[str, Any], Facts]:
        """The trees and the facts of the newest checkpoint that is whole.

        shapes_for: from the facts to the trees that are wanted, as ShapeDtypeStructs with shardings; it may
        raise InputError for a run that does not fit. Newer checkpoints, which are damaged, are set aside as
        `<step>.damaged` with a message. Raises InputError, and leaves all as it is, if none is whole, or one
        is of another format.
        """
        damaged: dict[int, DamagedError] = {}
        for step in sorted(self._manager.all_steps(), reverse=True):
            try:
                found = self._read(step, shapes_for)
            except DamagedError as error:
                damaged[step] = error
                continue
            self._set_aside(damaged, step)
            return found
        newest, *_ = damaged.values()
        raise InputError(
            f"{newest}; none before it is whole (with {self.directory} moved away, the run starts anew)"
        )

    def _read(self, step: int, shapes_for: Callable) -> tuple[dict[str, Any], Facts]:
        path = self.directory / str(step)
        # voted on first, so that nobody begins to restore together with a process that cannot
        facts = _by_all(path, "reading what a checkpoint says of its run", lambda: read_facts(path))
        items = {name: ocp.args.StandardRestore(tree) for name, tree in shapes_for(facts).items()}
        composite = ocp.args.Composite(**items)
        found = _by_all(path, "restoring a checkpoint", lambda: self._manager.restore(step, args=composite))
        trees = {name: found[name] for name in items}
        _compare(path, facts, trees)
        return trees, facts

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


def read_tree(workdir: Path, step: int, name: str, shapes: object) -> Any:
    """The tree `name` of a checkpoint, on one device. Raises InputError if it does not fit `shapes`."""
    path = checkpoint_path(workdir, step)
    here = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    placed = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=here), shapes)
    with readable(path):
        tree = ocp.StandardCheckpointer().restore(path / name, placed)
        _compare(path, read_facts(path), {name: tree})
        return tree


def newest_step(workdir: Path) -> int:
    """The newest complete step under a workdir. Raises InputError if it holds no checkpoint."""
    root = Path(workdir) / "checkpoints"
    steps = [int(p.name) for p in root.iterdir() if p.name.isdigit()] if root.is_dir() else []
    if not steps:
        raise InputError(f"checkpoint: none is complete in {root}; valid: a workdir of a training run")
    return max(steps)


def checkpoint_path(workdir: Path, step: int) -> Path:
    return Path(workdir).absolute() / "checkpoints" / str(step)


def read_facts(path: Path) -> Facts:
    """What a checkpoint says of its run. Raises InputError for a format that is not known here."""
    run = ocp.JsonCheckpointHandler().restore(path / "run")  # a Checkpointer would wait for other processes
    if run["format"] not in READABLE:
        valid = " or ".join(map(str, READABLE))
        raise InputError(f"checkpoint: {path} has format {run['format']!r}; valid: {valid}")
    if run["format"] == FORMAT and run.pop("checksum") != _checksum(run):
        raise DamagedError(f"checkpoint: {path / 'run'} is not as it was written")
    return run


def _checksums_of(run: Facts, items: Iterable[str]) -> dict[str, int]:
    """The checksums that were written for the leaves of these items."""
    return {name: value for name, value in run.get("checksums", {}).items() if name.split("/")[0] in items}


def _compare(path: Path, run: Facts, tree: dict[str, Any]) -> None:
    """Raises DamagedError unless `tree` has just the leaves that were written, each with its checksum."""
    if "checksums" not in run:
        return
    written, found = _checksums_of(run, tree), checksums(tree)
    for name in sorted(written.keys() | found.keys()):
        if written.get(name) != found.get(name):
            raise DamagedError(f"checkpoint: {path} is damaged, {name} is not as it was written")


def _checksum(run: Facts) -> int:
    return zlib.crc32(json.dumps(run, sort_keys=True).encode())


@contextlib.contextmanager
def readable(path: Path) -> Iterator[None]:
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
    failed = None
    try:
        with readable(path):
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
