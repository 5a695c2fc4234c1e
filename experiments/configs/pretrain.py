"""Pretraining one model.

python -m experiments.train --config=experiments/configs/pretrain.py:size=tiny,kind=sparse --workdir=runs/tiny

size=tiny        seconds, to see everything work
size=quickstart  minutes on 2 CPU cores; the models of `bash launch/quickstart.sh`
size=small       under an hour of one CPU core for both models; the models of `experiments/small.py`
size=paper       the 8-layer, 2048-wide model of the paper on 32 billion tokens, for a pod
kind=sparse|dense
"""

from ml_collections import ConfigDict

from experiments.configs.arguments import parse
from experiments.configs.sections import run_sections


def get_config(argument: str = "") -> ConfigDict:
    """A config with the sections of `RunConfig`."""
    choice = parse(argument, {"size": ("quickstart", "tiny", "small", "paper"), "kind": ("sparse", "dense")})
    config = _SIZES[choice["size"]](sparse=choice["kind"] == "sparse")
    return ConfigDict(run_sections(config))


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
            "steps": 2400 if sparse else 1250,  # for about equal losses
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


_SIZES = {"tiny": _tiny, "quickstart": _quickstart, "small": _small, "paper": _paper}
