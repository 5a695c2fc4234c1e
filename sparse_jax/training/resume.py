"""Saves a training run in its workdir and resumes it: checkpoints of state and position."""

import json
import os
from pathlib import Path
from typing import Any

import optax
from tokenizers import Tokenizer

from sparse_jax.buckets import BucketPath
from sparse_jax.files import read_json_object, require_writable, user_path
from sparse_jax.inputs import InputError, first_line
from sparse_jax.runtime.checkpoint import CheckpointStore, Facts
from sparse_jax.runtime.lock import refuse_if_held
from sparse_jax.training.config import RunConfig, difference, run_config
from sparse_jax.training.state import Position, TrainState

CONFIG_NAME = "config.json"


class Checkpoints(CheckpointStore):
    """The checkpoints of a training run: what is needed to run, resume or publish its model."""

    def __init__(self, workdir: Path, config: RunConfig, tokenizer: Tokenizer, fingerprint: str):
        """fingerprint: of the corpus (tokenizer and tokens), which must be unchanged on resuming."""
        super().__init__(workdir, config.training.keep_checkpoints, config.training.keep_every)
        self._config, self._tokenizer, self._fingerprint = config, tokenizer, fingerprint

    def save_state(self, state: TrainState, position: Position) -> None:
        """Starts writing `state`, as `save` does."""
        optimizer = {"step": state.step, "state": state.opt_state}
        trees: dict[str, Any] = {"params": state.params, "optimizer": optimizer}
        if position.masks is not None:
            trees["masks"] = position.masks
        facts = {
            "config": self._config.to_json(),
            "tokenizer": self._tokenizer.to_str(),
            "corpus": self._fingerprint,
            "data": position.data,
            "rows": position.rows,
            "skipped": position.skipped,
            "ended": position.ended,
        }
        self.save(int(state.step), trees, facts)

    def restore_state(self, shapes: TrainState) -> tuple[TrainState, Position]:
        """The newest undamaged state, sharded like `shapes` (ShapeDtypeStructs with shardings).

        Raises InputError as `restore` does, and if the run had another config or other data.
        """

        def wanted(facts: Facts) -> dict[str, Any]:
            if facts["corpus"] != self._fingerprint:
                raise InputError(
                    f"data: the text has changed since {self.directory} was written (corpus "
                    f"{facts['corpus']} there, {self._fingerprint} here); valid: the same data, or a "
                    "new workdir"
                )
            # config.json next to the checkpoints is for people, and may be missing
            there = run_config(json.loads(facts["config"]), type(self._config))
            _require_same(there, self._config, self.directory.parent)
            trees = {
                "params": shapes.params,
                "optimizer": {"step": shapes.step, "state": shapes.opt_state},
            }
            if any(name.split("/")[0] == "masks" for name in facts.get("checksums", {})):
                trees["masks"] = optax.tree.get(shapes.opt_state, "masks")
            return trees

        found, facts = self.restore(wanted)
        rows = [tuple(row) for row in facts.get("rows", [])]
        skipped, ended = facts.get("skipped", 0), facts.get("ended", False)
        position = Position(facts["data"], rows, skipped, found.get("masks"), ended)
        optimizer = found["optimizer"]
        return TrainState(optimizer["step"], found["params"], optimizer["state"]), position


def check_workdir(workdir: Path, config: RunConfig) -> None:
    """Raises InputError if `workdir` cannot hold this run: it cannot be written, another run lives there, or
    it is of a run with another config."""
    workdir = user_path(workdir, "workdir")
    if isinstance(workdir, BucketPath):
        require_writable(workdir / CONFIG_NAME)
    for folder in () if isinstance(workdir, BucketPath) else (workdir, workdir / "checkpoints"):
        if folder.exists() and not folder.is_dir():
            raise InputError(f"workdir: {folder} is a file; valid: a new directory, or that of this run")
        there = next(each for each in (folder, *folder.absolute().parents) if each.exists())
        if not os.access(there, os.W_OK | os.X_OK, effective_ids=True):
            raise InputError(f"workdir: {there} cannot be written; valid: a writable directory")
    refuse_if_held(workdir)
    check_config(workdir, config)


def check_config(workdir: Path, config: RunConfig) -> None:
    """Raises InputError if `config.json` in `workdir` is invalid, or that of a run with another config."""
    saved = workdir / CONFIG_NAME
    if not saved.exists():
        return
    try:
        old = run_config(read_json_object(saved), type(config))
    except InputError as error:
        raise InputError(f"workdir: {saved} is not the config of a run ({first_line(error)})") from None
    _require_same(old, config, workdir)


def _require_same(old: RunConfig, new: RunConfig, workdir: Path) -> None:
    changed = difference(old, new)
    if changed:
        raise InputError(
            f"workdir: {workdir} contains a run with another config ({changed}); valid: a new one"
        )
