"""One run's whole configuration, from a mapping and back, checked before anything starts."""

import dataclasses
import json
from collections.abc import Mapping

from sparse_jax.data.config import DataConfig, data_config
from sparse_jax.inputs import from_mapping, require, require_sections
from sparse_jax.model.config import ModelConfig
from sparse_jax.sparsity.config import SparsityConfig
from sparse_jax.sparsity.optimizer import OptimizerConfig


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """How long and how a model is trained.

    batch_size counts sequences of the model's context over all devices; the `_every` fields count
    steps (0: never, but always at the end). `mesh_data` and `mesh_fsdp` are the sizes of the mesh
    axes; one of them may be -1, "whatever devices are left". The `keep_checkpoints` newest checkpoints
    stay, and of the others those at a multiple of `keep_every` (0: none). `skip_nonfinite`: how many
    batches whose loss or gradients are not finite a run may skip before it stops; they make no step.

    Raises InputError naming `training.<field>`.
    """

    steps: int = 1000
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
    tensorboard: bool = False

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size", "log_every", "evaluation_windows", "keep_checkpoints"):
            require(getattr(self, name) >= 1, f"training.{name}", getattr(self, name), "at least 1")
        for name in ("evaluate_every", "checkpoint_every", "keep_every", "skip_nonfinite", "seed"):
            require(getattr(self, name) >= 0, f"training.{name}", getattr(self, name), "at least 0")
        for name in ("mesh_data", "mesh_fsdp"):
            size = getattr(self, name)
            require(size >= 1 or size == -1, f"training.{name}", size, "at least 1, or -1")
        require(
            self.mesh_data != -1 or self.mesh_fsdp != -1, "training.mesh_fsdp", -1, "one axis at most is -1"
        )


@dataclasses.dataclass(frozen=True)
class RunConfig:
    """Everything that decides a trained model: the same config and seed give the same bits."""

    model: ModelConfig
    sparsity: SparsityConfig
    optimizer: OptimizerConfig
    data: DataConfig
    training: TrainConfig

    def to_json(self) -> str:
        """The config as an indented JSON object, one section per part."""
        return json.dumps(dataclasses.asdict(self), indent=1, sort_keys=True)


_SECTIONS = {
    "model": lambda values: from_mapping(ModelConfig, values, "model"),
    "sparsity": lambda values: from_mapping(SparsityConfig, values, "sparsity"),
    "optimizer": lambda values: from_mapping(OptimizerConfig, values, "optimizer"),
    "data": data_config,
    "training": lambda values: from_mapping(TrainConfig, values, "training"),
}


def run_config(mapping: Mapping[str, object]) -> RunConfig:
    """Builds and checks a RunConfig from nested mappings (a ConfigDict's `to_dict`, or JSON).

    Raises InputError naming the section and field of whatever is unknown, ill-typed or impossible.
    """
    require_sections(mapping, _SECTIONS)
    return RunConfig(**{name: build(mapping[name]) for name, build in _SECTIONS.items()})


# What may change when a run is taken up again, because it changes no number of the model (but, on another
# mesh, by the rounding of sums).
FREE = (
    "training.log_every",
    "training.keep_checkpoints",
    "training.keep_every",
    "training.skip_nonfinite",
    "training.mesh_data",
    "training.mesh_fsdp",
    "training.tensorboard",
    "data.directory",
)


def difference(old: RunConfig, new: RunConfig) -> str | None:
    """The first field that decides the model and differs, with both values; None if there is none."""
    before, after = dataclasses.asdict(old), dataclasses.asdict(new)
    for section in before:
        for field in before[section]:
            if f"{section}.{field}" not in FREE and before[section][field] != after[section][field]:
                return f"{section}.{field} {before[section][field]!r} there, {after[section][field]!r} here"
    return None
