"""Checkpoints by Orbax: parameters, optimizer state, data position, config and tokenizer together."""

import contextlib
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import jax
import orbax.checkpoint as ocp
from tokenizers import Tokenizer

from sparse_jax.inputs import InputError
from sparse_jax.model.config import ModelConfig
from sparse_jax.model.forward import Params, param_shapes
from sparse_jax.training.config import RunConfig, difference, run_config
from sparse_jax.training.state import TrainState

FORMAT = 1
CONFIG_NAME = "config.json"


class Checkpoints:
    """The checkpoints of one run, under `<workdir>/checkpoints/<step>`; newest kept, each whole.

    Every checkpoint can be used alone: it holds what is needed to run, resume or publish the model.
    """

    def __init__(self, workdir: Path, config: RunConfig, tokenizer: Tokenizer, fingerprint: str):
        """fingerprint: of the corpus (tokenizer and tokens), which resuming must find unchanged."""
        self._config, self._tokenizer, self._fingerprint = config, tokenizer, fingerprint
        self.directory = Path(workdir).absolute() / "checkpoints"
        self._manager = ocp.CheckpointManager(
            self.directory,
            options=ocp.CheckpointManagerOptions(
                max_to_keep=config.training.keep_checkpoints, cleanup_tmp_directories=True
            ),
        )

    @property
    def latest(self) -> int | None:
        """The newest complete checkpoint's step."""
        return self._manager.latest_step()

    def save(self, state: TrainState, data_state: dict) -> None:
        """Starts writing a checkpoint of `state`; the disk work goes on in the background.

        Raises InputError if this or the previous one cannot be written; older ones stay as they are.
        """
        run = {
            "format": FORMAT,
            "config": self._config.to_json(),
            "tokenizer": self._tokenizer.to_str(),
            "corpus": self._fingerprint,
            "data": data_state,
        }
        items = ocp.args.Composite(
            params=ocp.args.StandardSave(state.params),
            optimizer=ocp.args.StandardSave({"step": state.step, "state": state.opt_state}),
            run=ocp.args.JsonSave(run),
        )
        self._guarded(lambda: self._manager.save(int(state.step), args=items))

    def wait(self) -> None:
        """Returns when everything is on the disk. Raises InputError if it could not be written."""
        self._guarded(self._manager.wait_until_finished)

    def restore(self, shapes: TrainState) -> tuple[TrainState, dict]:
        """The newest state, laid out as `shapes` (ShapeDtypeStructs with shardings) says, and the data
        position. Raises InputError for a truncated or foreign checkpoint."""
        step = self._manager.latest_step()
        items = ocp.args.Composite(
            params=ocp.args.StandardRestore(shapes.params),
            optimizer=ocp.args.StandardRestore({"step": shapes.step, "state": shapes.opt_state}),
            run=ocp.args.JsonRestore(),
        )
        with _readable(self.directory / str(step)):
            found = self._manager.restore(step, args=items)
            if found["run"]["corpus"] != self._fingerprint:
                raise InputError(
                    f"data: the text has changed since {self.directory} was written (corpus "
                    f"{found['run']['corpus']} there, {self._fingerprint} here); valid: the same data, or a "
                    "new workdir"
                )
            optimizer = found["optimizer"]
            state = TrainState(optimizer["step"], found["params"], optimizer["state"])
            return state, found["run"]["data"]

    def close(self) -> None:
        """Waits for what is being written and lets go of the directory."""
        self.wait()
        self._manager.close()

    def _guarded(self, write) -> None:
        try:
            write()
        except Exception as error:  # orbax and tensorstore wrap disk errors in types of their own
            with contextlib.suppress(Exception):
                self._manager.wait_until_finished()
            steps = ", ".join(map(str, sorted(self._complete_steps()))) or "none"
            raise InputError(
                f"checkpoint: cannot write to {self.directory} ({_first_line(error)}; "
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
        run = ocp.Checkpointer(ocp.JsonCheckpointHandler()).restore(path / "run")
        if run["format"] != FORMAT:
            raise InputError(f"checkpoint: {path} has format {run['format']!r}; valid: {FORMAT}")
        return run_config(json.loads(run["config"])), Tokenizer.from_str(run["tokenizer"]), step


def read_params(workdir: Path, config: ModelConfig, step: int) -> Params:
    """The parameters of a checkpoint, on one device. Raises InputError if they do not fit `config`."""
    path = _checkpoint_path(workdir, step)
    here = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    shapes = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=here), param_shapes(config)
    )
    with _readable(path):
        return ocp.StandardCheckpointer().restore(path / "params", shapes)


def newest_step(workdir: Path) -> int:
    """The newest complete step under a workdir. Raises InputError if it holds no checkpoint."""
    root = Path(workdir) / "checkpoints"
    steps = [int(p.name) for p in root.iterdir() if p.name.isdigit()] if root.is_dir() else []
    if not steps:
        raise InputError(f"checkpoint: none is complete in {root}; valid: a workdir of a training run")
    return max(steps)


def check_workdir(workdir: Path, config: RunConfig) -> None:
    """Raises InputError if `workdir` cannot hold this run: no directory, or a run with another config."""
    workdir = Path(workdir)
    for folder in (workdir, workdir / "checkpoints"):
        if folder.exists() and not folder.is_dir():
            raise InputError(f"workdir: {folder} is a file; valid: a directory, new or of this run")
    saved = workdir / CONFIG_NAME
    if not saved.exists():
        return
    try:
        old = run_config(json.loads(saved.read_text()))
    except (OSError, ValueError) as error:
        raise InputError(f"workdir: {saved} is not the config of a run ({_first_line(error)})") from None
    changed = difference(old, config)
    if changed:
        raise InputError(f"workdir: {workdir} holds a run with another config ({changed}); valid: a new one")


def _checkpoint_path(workdir: Path, step: int) -> Path:
    return Path(workdir).absolute() / "checkpoints" / str(step)


@contextlib.contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Turns whatever goes wrong while reading into one line that names the checkpoint."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:  # a damaged file surfaces as any of a dozen types
        raise InputError(
            f"checkpoint: {path} cannot be read, it is truncated or not of this model "
            f"({_first_line(error)}); valid: a complete checkpoint of this library"
        ) from error


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
