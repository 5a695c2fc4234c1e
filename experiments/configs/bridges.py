"""Bridges between the published small pair, all hybrid paths through them, and steering.

python -m experiments.bridges --config=experiments/configs/bridges.py

size=small   the published pair, half an hour on a CPU core: bridges alone, the sparse model stays as it is
size=tiny    checks in some minutes that everything works

With --config.bridges.train_sparse=True the sparse model is trained too, and with --config.models.sparse= it
starts afresh.
"""

import dataclasses

from ml_collections import ConfigDict

from experiments.configs import pretrain
from experiments.configs.arguments import parse
from sparse_jax.bridges.config import BridgeConfig

CIRCUITS = "experiments/results/faithfulness/circuits/sparse/mean"


def get_config(argument: str = "") -> ConfigDict:
    """The sections of a `BridgeRun`, the pair of `models`, and what is measured: `paths` and `steering`."""
    size = parse(argument, {"size": ("small", "tiny")})["size"]
    config = pretrain.get_config("size=small,kind=sparse")
    # the sparse model has reached its sparsity already
    config.sparsity.update(schedule="constant")
    config.training.update(
        steps=300, batch_size=8, log_every=10, evaluate_every=0, evaluation_windows=16, checkpoint_every=50
    )
    # a sparse model that is not trained has a constant cross-entropy
    config.bridges = dataclasses.asdict(BridgeConfig(train_sparse=False, cross_entropy=0.0))
    config.update(
        workdir="runs/bridges" if size == "small" else f"runs/bridges_{size}",
        models={side: f"experiments/results/small/{side}" for side in ("sparse", "dense")},
        paths={"windows": 64, "batch_size": 16},
        steering={
            "circuits": CIRCUITS,
            "tasks": ("single_double_quote", "while_return_true"),
            "pairs": 64,
            "strengths": 11,
            "random_nodes": 10,
            "seed": 0,
        },
    )
    if size == "tiny":
        config.training.update(steps=2, checkpoint_every=2, log_every=1, evaluation_windows=8)
        config.paths.update(windows=4, batch_size=4)
        config.steering.update(pairs=4, strengths=2, random_nodes=1, tasks=("single_double_quote",))
    return config
