"""The configuration of a training run, from a mapping and back, checked before anything starts."""

import dataclasses
import json
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, TypeVar

from sparse_jax.data.config import DataConfig, data_config
from sparse_jax.inputs import from_mapping, require, require_sections, whole_seed
from sparse_jax.model.config import ModelConfig
from sparse_jax.sparsity.config import SparsityConfig
from sparse_jax.training.optimizer import OptimizerConfig


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """How long and how a model is trained.

    batch_size counts sequences of full context length over all devices; the `_every` fields count
    steps (0: only at the end). `mesh_data`, `mesh_fsdp` and `mesh_tensor` are the sizes of the
    mesh axes over the devices of all processes; one of them may be -1, "whatever devices are left".
    `accumulate` is the number of microbatches per step: more of them need less memory and more time.
    `donate` lets a step overwrite its input state; without it, two states must fit into memory. The
    `keep_checkpoints` newest checkpoints are kept, and older ones at multiples of `keep_every` (0: none).
    A run ends at its first evaluation after step 0 with a validation loss on the mixture, in nats a token, of
    at most `until_loss`, and after `steps` at the latest (None: always then). Learning rate and sparsity
    follow their schedules over `steps` either way.
    `skip_nonfinite` is how many batches with a non-finite loss or gradient a run may skip before it stops; a
    skipped batch does not count as a step.

    Raises InputError naming `training.<field>`.
    """

    steps: int = 1000
    until_loss: float | None = None
    batch_size: int = 32
    seed: int = 0
    log_every: int = 50
    evaluate_every: int = 500
    evaluation_windows: int = 128
    checkpoint_every: int = 1000
    keep_checkpoints: int = 2
    keep_every: int = 0
    skip_nonfinite: int = 0
    mesh_data: int = -1
    mesh_fsdp: int = 1
    mesh_tensor: int = 1
    accumulate: int = 1
    donate: bool = True
    tensorboard: bool = False

    def __post_init__(self) -> None:
        for name in (
            "steps",
            "batch_size",
            "log_every",
            "evaluation_windows",
            "keep_checkpoints",
            "accumulate",
        ):
            require(getattr(self, name) >= 1, f"training.{name}", getattr(self, name), "at least 1")
        for name in ("evaluate_every", "checkpoint_every", "keep_every", "skip_nonfinite"):
            require(getattr(self, name) >= 0, f"training.{name}", getattr(self, name), "at least 0")
        whole_seed("training.seed", self.seed)
        if self.until_loss is not None:
            require(self.until_loss > 0, "training.until_loss", self.until_loss, "above 0, or None")
            evaluated = self.evaluate_every or self.checkpoint_every
            require(evaluated > 0, "training.evaluate_every", 0, "at least 1 with training.until_loss")
        meshes = {name: getattr(self, name) for name in ("mesh_data", "mesh_fsdp", "mesh_tensor")}
        for name, size in meshes.items():
            require(size >= 1 or size == -1, f"training.{name}", size, "at least 1, or -1")
        left = [name for name, size in meshes.items() if size == -1]
        require(len(left) <= 1, f"training.{', '.join(left)}", -1, "-1 for at most one axis")


_SECTIONS: dict[str, Callable[[Any], Any]] = {
    "model": lambda values: from_mapping(ModelConfig, values, "model"),
    "sparsity": lambda values: from_mapping(SparsityConfig, values, "sparsity"),
    "optimizer": lambda values: from_mapping(OptimizerConfig, values, "optimizer"),
    "data": data_config,
    "training": lambda values: from_mapping(TrainConfig, values, "training"),
}


@dataclasses.dataclass(frozen=True)
class RunConfig:
    """Everything that determines a trained model: the same config and seed give the same bits.

    A kind of run with more sections is a subclass, and says in `SECTIONS` how each is built.
    """

    SECTIONS: ClassVar[Mapping[str, Callable[[Any], Any]]] = _SECTIONS

    model: ModelConfig
    sparsity: SparsityConfig
    optimizer: OptimizerConfig
    data: DataConfig
    training: TrainConfig

    def to_json(self) -> str:
        """The config as indented JSON, with one section per part."""
        return json.dumps(dataclasses.asdict(self), indent=1, sort_keys=True, allow_nan=False)


Run = TypeVar("Run", bound=RunConfig)


def run_config(mapping: Mapping[str, object], kind: type[Run] = RunConfig) -> Run:  # type: ignore[assignment]
    """Builds and checks a config of `kind` from nested mappings (a ConfigDict's `to_dict`, or JSON).

    Raises InputError naming the section and field that is unknown, of the wrong type or invalid.
    """
    require_sections(mapping, kind.SECTIONS)
    return kind(**{name: build(mapping[name]) for name, build in kind.SECTIONS.items()})


# Fields that may change when a run is resumed: they do not affect the model ...
FREE = (
    "training.log_every",
    "training.keep_checkpoints",
    "training.keep_every",
    "training.skip_nonfinite",
    "training.tensorboard",
    "data.directory",
    # ... except for the rounding of sums
    "model.remat",
    "model.unroll",
    "training.mesh_data",
    "training.mesh_fsdp",
    "training.mesh_tensor",
    "training.accumulate",
    "training.donate",
)


def named_fields(config: RunConfig) -> dict[str, object]:
    """All fields of all sections by full name, "section.field"."""
    sections = dataclasses.asdict(config)
    return {f"{section}.{field}": value for section in sections for field, value in sections[section].items()}


def difference(old: RunConfig, new: RunConfig) -> str | None:
    """The first differing field that affects the model, with both values; None if there is none."""
    before, after = named_fields(old), named_fields(new)
    for name in before:
        if name not in FREE and before[name] != after[name]:
            return f"{name} {before[name]!r} there, {after[name]!r} here"
    return None
