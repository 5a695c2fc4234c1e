"""Presets: configs of training runs by size, for commands, studies and notebooks.

tiny        trains in seconds, to check that everything works
quickstart  minutes on 2 CPU cores
small       under an hour on one CPU core for both models
wide        twice as wide, its matrices with as many nonzero weights; two to three hours on 2 CPU cores
paper       the 8-layer, 2048-wide model of the paper on 32 billion tokens, for a pod
"""

import dataclasses
from collections.abc import Sequence

from sparse_jax.data.config import DataConfig, sources_of
from sparse_jax.inputs import InputError, nearest, require, require_choice
from sparse_jax.model.config import ModelConfig
from sparse_jax.sparsity.config import SparsityConfig
from sparse_jax.training.config import RunConfig, TrainConfig, run_config
from sparse_jax.training.optimizer import OptimizerConfig

KINDS = ("sparse", "dense")
Paths = Sequence[str] | None


def tiny(kind: str = "sparse", data: Paths = None, **changes: object) -> RunConfig:
    """Trains in seconds, to check that everything works. Arguments as in `quickstart`.

    >>> tiny().model.d_model, tiny("dense").sparsity.fraction
    (32, 1.0)
    """
    return _preset("tiny", kind, data, changes)


def quickstart(kind: str = "sparse", data: Paths = None, **changes: object) -> RunConfig:
    """Trains in minutes on 2 CPU cores: the models of `bash launch/quickstart.sh`.

    That script trains the dense one for longer, but stops it at the sparse one's loss.

    kind: "sparse" or "dense". data: folders of Python and files of text to train on, in place of the preset's
    text. changes: fields of the model by name, those of other sections as `**{"section.field": value}`.
    Raises InputError for an unknown kind, section or field, and for values that do not fit.

    >>> config = quickstart(kind="sparse", d_model=64, **{"training.steps": 500})
    >>> config.model.d_model, config.training.steps, config.sparsity.fraction
    (64, 500, 0.05)
    """
    return _preset("quickstart", kind, data, changes)


def small(kind: str = "sparse", data: Paths = None, **changes: object) -> RunConfig:
    """The models under experiments/results/small. Arguments as in `quickstart`.

    >>> small().model.d_model, small("dense").model.d_model
    (256, 40)
    """
    return _preset("small", kind, data, changes)


def wide(kind: str = "sparse", data: Paths = None, **changes: object) -> RunConfig:
    """The models under experiments/results/wider_pair. Arguments as in `quickstart`.

    >>> wide().model.d_model, wide("dense").model.d_model
    (512, 32)
    """
    return _preset("wide", kind, data, changes)


def paper(kind: str = "sparse", data: Paths = None, **changes: object) -> RunConfig:
    """The paper's model and budget, for a pod. Arguments as in `quickstart`.

    >>> paper().model.d_model, paper().training.steps
    (2048, 244140)
    """
    return _preset("paper", kind, data, changes)


def sections(size: str, kind: str) -> dict[str, dict[str, object]]:
    """The sections of a preset, without fields at their defaults. Raises InputError for unknown names."""
    require_choice("size", size, _SIZES)
    require_choice("kind", kind, KINDS)
    return _SIZES[size](sparse=kind == "sparse")


def _preset(size: str, kind: str, data: Paths, changes: dict[str, object]) -> RunConfig:
    config = sections(size, kind)
    if data is not None:
        are_several = not isinstance(data, str) and len(data) > 0
        require(are_several, "data", data, "a list of folders and files")
        config["data"]["sources"] = sources_of(data)
    for name, value in changes.items():
        section, _, field = name.rpartition(".")
        section = section or "model"
        if section not in _FIELDS or field not in _FIELDS[section]:
            known = _FIELDS["model"] if section == "model" else []
            known = known + [f"{s}.{f}" for s, fields in _FIELDS.items() if s != "model" for f in fields]
            raise InputError(f"{name}: unknown field; {nearest(name, known)}")
        config.setdefault(section, {})[field] = value
    return run_config(config)


def _tiny(sparse: bool) -> dict:
    config = _quickstart(sparse)
    config["model"].update(context=160, d_model=32)
    config["sparsity"].update(fraction=0.25 if sparse else 1.0)
    config["data"].update(sources={"simple_python": {"kind": "simple_python", "examples": 3000}})
    config["training"].update(
        steps=20, batch_size=8, log_every=5, evaluate_every=10, evaluation_windows=8, checkpoint_every=10
    )
    return config


def _quickstart(sparse: bool) -> dict:
    return {
        "model": {
            "vocab_size": 640,
            "context": 128,
            "n_layers": 2,
            "d_model": 128 if sparse else 32,
            "d_head": 16,
            "activation_fraction": 0.25 if sparse else 1.0,
            "positions": "added",
        },
        "sparsity": {
            "fraction": 0.05 if sparse else 1.0,
            "preset": "openai",
            "schedule": "power",
            "anneal_end": 0.8,
        },
        "optimizer": {"learning_rate": 0.05 if sparse else 0.0128},
        "data": {
            "directory": "runs/data",
            "sources": {
                "simple_python": {"kind": "simple_python", "weight": 0.9, "examples": 40_000, "seed": 0},
                "python_source": {"kind": "python_source", "weight": 0.1, "max_bytes": 4_000_000},
            },
        },
        "training": {
            "steps": 1700 if sparse else 1020,  # for about equal losses
            "batch_size": 16,
            "log_every": 20,
            "evaluate_every": 400,
            "evaluation_windows": 64,
            "checkpoint_every": 400,
        },
    }


def _small(sparse: bool) -> dict:
    config = _quickstart(sparse)
    config["model"].update(vocab_size=1024)
    if sparse:
        config["model"].update(d_model=256)
        config["sparsity"].update(fraction=1 / 64)
    else:
        config["model"].update(d_model=40, d_head=10)
    config["data"]["sources"]["simple_python"].update(examples=100_000)
    config["training"].update(
        steps=9000 if sparse else 3950, evaluate_every=1000, evaluation_windows=128, checkpoint_every=1000
    )
    return config


def _wide(sparse: bool) -> dict:
    config = _small(sparse)
    if sparse:
        config["model"].update(d_model=512)
        # as many nonzero weights in the layers' matrices as the small model: a quarter, of four times as many
        config["sparsity"].update(fraction=1 / 256, min_per_channel=2)
        config["training"].update(checkpoint_every=500)
    else:
        config["model"].update(d_model=32, d_head=8)
        config["training"].update(steps=3090)
    return config


def _paper(sparse: bool) -> dict:
    config = _quickstart(sparse)
    config["model"].update(
        vocab_size=2048, context=256, n_layers=8, d_model=2048 if sparse else 256, compute_dtype="bfloat16"
    )
    config["model"].update(unroll=False, positions="none")
    config["sparsity"].update(fraction=1 / 256 if sparse else 1.0, preset="paper", schedule="linear")
    config["data"]["sources"]["simple_python"].update(examples=20_000_000, weight=10.0)
    config["data"]["sources"]["python_source"].update(weight=25.0, max_bytes=None)
    config["optimizer"].update(learning_rate=0.0128)
    config["training"].update(
        steps=32_000_000_000 // (512 * 256), batch_size=512, evaluate_every=2000, checkpoint_every=2000
    )
    return config


_SIZES = {"tiny": _tiny, "quickstart": _quickstart, "small": _small, "wide": _wide, "paper": _paper}
_FIELDS = {
    "model": [field.name for field in dataclasses.fields(ModelConfig)],
    "sparsity": [field.name for field in dataclasses.fields(SparsityConfig)],
    "optimizer": [field.name for field in dataclasses.fields(OptimizerConfig)],
    "data": [field.name for field in dataclasses.fields(DataConfig)],
    "training": [field.name for field in dataclasses.fields(TrainConfig)],
}
