"""Step gates against hard-concrete gates, as means to find circuits in the small pair.

python -m experiments.gates --config=experiments/configs/gates.py

It may be stopped at any time; the same command continues. size=tiny checks in a minute that everything works.
"""

from ml_collections import ConfigDict

from experiments.configs.arguments import parse
from experiments.configs.sections import small_pair_pruning

TASKS = ("single_double_quote", "for_while", "with_open", "fstring_brace", "set_or_string", "final_kwarg")


def get_config(argument: str = "") -> ConfigDict:
    """`models` by side, circuits `published` before, `gates` and penalties (`k_coefs`) to compare, tasks."""
    size = parse(argument, {"size": ("full", "tiny")})["size"]
    config = ConfigDict(
        {
            "workdir": "runs/gates" if size == "full" else f"runs/gates_{size}",
            "models": {side: f"experiments/results/small/{side}" for side in ("sparse", "dense")},
            # step gates' circuits with the settings of `pruning`: SIDE/mean/TASK.json are below it
            "published": "experiments/results/faithfulness/circuits",
            "tasks": TASKS,
            "gates": ("step", "hard_concrete"),
            "k_coefs": (3e-3,),
            "pruning": small_pair_pruning(),
        }
    )
    if size == "tiny":
        config.tasks = ("for_while",)
        config.pruning.update(steps=20, pairs_per_step=4, train_pairs=16, validation_pairs=8, test_pairs=8)
        config.pruning.update(mean_windows=8, target_loss=0.5)
    return config
