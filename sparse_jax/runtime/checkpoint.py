"""Atomic Orbax checkpoints: named trees and facts of a run, with a checksum per leaf."""

import contextlib
import itertools
import json
import shutil
import sys
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar, cast

import jax
import orbax.checkpoint as ocp
from etils import epath
from orbax.checkpoint import checkpoint_managers

from sparse_jax.buckets import BucketPath
from sparse_jax.inputs import InputError, first_line
from sparse_jax.progress import finish_line
from sparse_jax.runtime.checksums import checksums
from sparse_jax.runtime.processes import ProcessError, is_first, meet

FORMAT = 2
# What Orbax writes last where a directory cannot be renamed.
COMMITTED = "commit_success.txt"
READABLE = (1, FORMAT)  # format 1 has no checksums, and no metrics that are still to be written
# How much longer than the others the slowest process may take to read a checkpoint.
READING_SECONDS = 1800
# Errors not caused by the disk, to be raised unchanged: of the input, other processes, devices.
_OTHER_ERRORS = (InputError, ProcessError, jax.errors.JaxRuntimeError)

Read = TypeVar("Read")
# JSON values by name: what a checkpoint stores about its run besides the trees.
Facts = dict[str, Any]


class DamagedError(InputError):
    """A checkpoint cannot be read, or differs from what was written."""


class _Manager(ocp.CheckpointManager):
    """Orbax's manager, without its calls to JAX's preemption service, which would move the stop."""

    def reached_preemption(self, step: int) -> bool:
        """Always False: `preemption.stop_requests` asks the service."""
        return False


class CheckpointStore:
    """The checkpoints of one run, in `<workdir>/checkpoints/<step>`; the newest are kept.

    Every checkpoint is written atomically and is self-contained: trees of arrays by name, and facts as JSON.
    """

    def __init__(self, workdir: Path, keep: int, keep_every: int = 0):
        """keep: how many of the newest are kept, besides older ones at multiples of `keep_every` (0: none).

        Raises InputError if the directory cannot be written.
        """
        self.directory = workdir.absolute() / "checkpoints"
        kept = [checkpoint_managers.LatestN(keep)]
        if keep_every:
            kept.append(checkpoint_managers.EveryNSteps(keep_every))
        try:
            self._manager = _Manager(
                _for_orbax(self.directory),
                options=ocp.CheckpointManagerOptions(
                    preservation_policy=checkpoint_managers.AnyPreservationPolicy(kept),
                    cleanup_tmp_directories=True,
                ),
            )
        except OSError as error:
            raise InputError(f"checkpoint: cannot write to {self.directory} ({first_line(error)})") from None

    @property
    def latest(self) -> int | None:
        """The step of the newest checkpoint, which may still be being written."""
        return self._manager.latest_step()

    def save(self, step: int, trees: Mapping[str, Any], facts: Facts) -> None:
        """Starts writing a checkpoint in the background.

        Raises InputError if this one or the previous one cannot be written; older ones are unaffected.
        """
        run = {"format": FORMAT, **facts, "checksums": checksums(dict(trees))}
        items = {name: ocp.args.StandardSave(tree) for name, tree in trees.items()}
        items["run"] = ocp.args.JsonSave({**run, "checksum": _checksum(run)})
        self._guarded(lambda: self._manager.save(step, args=ocp.args.Composite(**items)))

    def wait(self) -> None:
        """Waits until everything is on disk. Raises InputError if it could not be written."""
        self._guarded(self._manager.wait_until_finished)

    def restore(self, shapes_for: Callable[[Facts], Mapping[str, Any]]) -> tuple[dict[str, Any], Facts]:
        """The trees and facts of the newest undamaged checkpoint.

        shapes_for: maps the facts to the trees to read, as ShapeDtypeStructs with shardings; it may raise
        InputError for a run that does not fit. Newer, damaged checkpoints are renamed to `<step>.damaged`,
        with a message. Raises InputError, and renames nothing, if all are damaged or one has another format.
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
            f"{newest}; none before it is undamaged (move {self.directory} away to start the run anew)"
        )

    def _read(self, step: int, shapes_for: Callable) -> tuple[dict[str, Any], Facts]:
        path = self.directory / str(step)
        # voted on first, so that no process starts a joint restore with one that cannot read
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
                _rename(self.directory / str(step), aside)
                finish_line()
                sys.stderr.write(f"{error}; set aside as {aside.name}, continuing from step {good}\n")
        if damaged:
            meet("setting damaged checkpoints aside", "")
            self._manager.reload()

    def close(self) -> None:
        """Waits for pending writes and closes the manager."""
        self.wait()
        self._manager.close()

    def _guarded(self, write) -> None:
        try:
            write()
        except _OTHER_ERRORS:
            raise
        except Exception as error:  # orbax and tensorstore wrap disk errors in their own types
            with contextlib.suppress(Exception):
                self._manager.wait_until_finished()
            steps = ", ".join(map(str, sorted(_complete_steps(self.directory)))) or "none"
            reason = first_line(error)
            if not isinstance(self.directory, BucketPath):
                reason += f"; {shutil.disk_usage(self.directory).free // 2**20} MiB free"
            raise InputError(
                f"checkpoint: cannot write to {self.directory} ({reason}); complete steps there: {steps}"
            ) from error


def read_tree(workdir: Path, step: int, name: str, shapes: object) -> Any:
    """The tree `name` of a checkpoint, on one device. Raises InputError if it does not fit `shapes`."""
    path = checkpoint_path(workdir, step)
    here = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    placed = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=here), shapes)
    with readable(path):
        tree = ocp.StandardCheckpointer().restore(_for_orbax(path / name), placed)
        _compare(path, read_facts(path), {name: tree})
        return tree


def newest_step(workdir: Path) -> int:
    """The newest complete step in a workdir. Raises InputError if there is no checkpoint."""
    root = workdir / "checkpoints"
    steps = _complete_steps(root) if root.is_dir() else []
    if not steps:
        raise InputError(f"checkpoint: none is complete in {root}; valid: a workdir of a training run")
    return max(steps)


def checkpoint_path(workdir: Path, step: int) -> Path:
    return workdir.absolute() / "checkpoints" / str(step)


def _complete_steps(root: Path) -> list[int]:
    steps = [path for path in root.iterdir() if path.name.isdigit()]
    if isinstance(root, BucketPath):  # there, Orbax gives an unfinished step no other name
        steps = [path for path in steps if (path / COMMITTED).is_file()]
    return [int(path.name) for path in steps]


def _for_orbax(path: Path) -> epath.Path:
    """The same place as Orbax knows it."""
    return epath.Path(str(path))


def _rename(directory: Path, to: Path) -> None:
    """Renames a directory; in a bucket by copying, which may be stopped: it is then done again."""
    if not isinstance(directory, BucketPath):
        directory.rename(to)
        return
    objects = directory.objects(recursive=True)
    for one in objects:
        one.path.copy_to(cast(BucketPath, to) / str(one.path.relative_to(directory)))
    for one in objects:
        one.path.unlink()


def read_facts(path: Path) -> Facts:
    """What a checkpoint stores about its run. Raises InputError for an unknown format."""
    run = ocp.JsonCheckpointHandler().restore(
        _for_orbax(path / "run")
    )  # a Checkpointer would wait for other processes
    if run["format"] not in READABLE:
        valid = " or ".join(map(str, READABLE))
        raise InputError(f"checkpoint: {path} has format {run['format']!r}; valid: {valid}")
    if run["format"] == FORMAT and run.pop("checksum") != _checksum(run):
        raise DamagedError(f"checkpoint: {path / 'run'} is not as it was written")
    return run


def _checksums_of(run: Facts, items: Iterable[str]) -> dict[str, int]:
    """The stored checksums of the leaves of these items."""
    return {name: value for name, value in run.get("checksums", {}).items() if name.split("/")[0] in items}


def _compare(path: Path, run: Facts, tree: dict[str, Any]) -> None:
    """Raises DamagedError unless `tree` has exactly the leaves that were written, with matching checksums."""
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
    """Turns any error while reading into a one-line error that names the checkpoint."""
    try:
        yield
    except _OTHER_ERRORS:
        raise
    except Exception as error:  # a damaged file raises any of a dozen types
        raise DamagedError(
            f"checkpoint: {path} cannot be read, it is truncated or not of this model "
            f"({first_line(error)}); valid: a complete checkpoint of this library"
        ) from error


def _by_all(path: Path, subject: str, read: Callable[[], Read]) -> Read:
    """The result of `read`; if one process cannot read the checkpoint, it counts as damaged for all."""
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
    """`path`, or `path` with a number appended if that exists."""
    numbered = (path.with_name(f"{path.name}_{number}") for number in itertools.count(2))
    return next(each for each in itertools.chain([path], numbered) if not each.exists())
