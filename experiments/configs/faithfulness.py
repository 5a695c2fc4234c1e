"""Whether circuits of the small pair are what the models use: mean-only against strict pruning.

python -m experiments.faithfulness --config=experiments/configs/faithfulness.py

It may be stopped at any time; the same command continues. size=full takes all tasks, some hours on two CPU
cores; size=tiny checks in a minute that everything works.
"""

from ml_collections import ConfigDict

from experiments.configs.arguments import parse
from experiments.configs.sections import pruning_section
from sparse_jax.tasks.built_in import TASKS

# tasks with circuits of some size in both models come first
FIRST = ("for_while", "single_double_quote", "final_kwarg", "with_open", "set_or_string", "bracket_counting")


def get_config(argument: str = "") -> ConfigDict:
    """`models` by side, `recipes` of pruning, the number of test `pairs` of a scorecard, and the tasks."""
    size = parse(argument, {"size": ("full", "tiny")})["size"]
    pruning = {
        "steps": 300,
        "pairs_per_step": 16,
        "train_pairs": 1024,
        "validation_pairs": 128,
        "test_pairs": 256,
        # centers for a model this small; METHOD 6 has 1e-4 and 3e-3 for models a hundred times larger
        "k_coef": 3e-3,
        "learning_rate": 7e-3,
    }
    strict = {"ablation": "mean+resample+stochastic", "confidence": 1.0}
    config = ConfigDict(
        {
            "workdir": "runs/faithfulness" if size == "full" else f"runs/faithfulness_{size}",
            "models": {side: f"experiments/results/small/{side}" for side in ("sparse", "dense")},
            "tasks": tuple(dict.fromkeys((*FIRST, *TASKS))),
            "pairs": 128,
            "recipes": {
                "mean": pruning_section(**pruning),
                "strict": pruning_section(**pruning, **strict),
            },
        }
    )
    if size == "tiny":
        config.tasks, config.pairs = ("for_while",), 8
        for section in config.recipes.values():
            section.update(steps=20, pairs_per_step=4, train_pairs=16, validation_pairs=8, test_pairs=8)
            section.update(target_loss=0.5)
    return config
