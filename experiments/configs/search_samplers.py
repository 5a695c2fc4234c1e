"""The library's hyperparameter search against others, on six tasks in the quickstart's sparse model.

bash launch/quickstart.sh --config.sparse.training.steps=2400
python -m experiments.search_samplers --config=experiments/configs/search_samplers.py

It may be stopped at any time; the same command continues, and with more search.rounds it extends every
search. size=tiny checks in a minute that everything works.
"""

import dataclasses

from ml_collections import ConfigDict

from experiments.configs.arguments import parse
from experiments.configs.sections import small_pair_pruning
from sparse_jax.pruning.recipe import SearchConfig

# the model does them with losses far below the target, and none with a handful of nodes
TASKS = ("single_double_quote", "fstring_brace", "bracket_brace", "for_while", "set_or_string", "final_kwarg")


def get_config(argument: str = "") -> ConfigDict:
    """`samplers` to compare (names in studies/search_samplers.py), the `search`, `pruning` as its center."""
    size = parse(argument, {"size": ("quickstart", "tiny")})["size"]
    config = ConfigDict(
        {
            "workdir": "runs/search_samplers" if size == "quickstart" else f"runs/search_samplers_{size}",
            "model": "runs/quickstart/sparse",
            "tasks": TASKS,
            "samplers": ("tpe", "pareto", "random"),
            "search": dataclasses.asdict(SearchConfig(lanes=4, rounds=3)),
            # a third of the quickstart's steps and a quarter of its pairs, for twelve prunings instead of one
            "pruning": small_pair_pruning(
                steps=100, pairs_per_step=8, validation_pairs=64, learning_rate=0.02
            ),
        }
    )
    if size == "tiny":
        config.tasks = ("for_while",)
        config.search.update(lanes=2, rounds=2)
        config.pruning.update(steps=20, pairs_per_step=4, train_pairs=16, validation_pairs=8, test_pairs=8)
        config.pruning.update(mean_windows=8, target_loss=0.5)
    return config
