"""Inverse pruning of the small pair: the fewest nodes without which a model no longer does a task.

python -m experiments.removal --config=experiments/configs/removal.py

It may be stopped at any time; the same command continues. size=tiny checks in a minute that everything works.
"""

from ml_collections import ConfigDict

from experiments.configs.arguments import parse
from experiments.configs.sections import small_pair_pruning

TASKS = ("single_double_quote", "for_while", "with_open", "set_or_string")


def get_config(argument: str = "") -> ConfigDict:
    """`models` by side, circuits `kept` to compare with, `targets` in nats of knowledge, tasks."""
    size = parse(argument, {"size": ("full", "tiny")})["size"]
    config = ConfigDict(
        {
            "workdir": "runs/removal" if size == "full" else f"runs/removal_{size}",
            "models": {side: f"experiments/results/small/{side}" for side in ("sparse", "dense")},
            # SIDE/mean/TASK.json are below it
            "kept": "experiments/results/faithfulness/circuits",
            "tasks": TASKS,
            "targets": (0.05, 0.15, 0.35),
            "pruning": small_pair_pruning(objective="removal"),
        }
    )
    if size == "tiny":
        config.tasks = ("for_while",)
        config.pruning.update(steps=20, pairs_per_step=4, train_pairs=16, validation_pairs=8, test_pairs=8)
        config.pruning.update(mean_windows=8)
    return config
