"""Whether circuits of the small pair are what the models use: mean-only against strict pruning.

python -m experiments.faithfulness --config=experiments/configs/faithfulness.py

It may be stopped at any time; the same command continues. size=full takes all tasks, a quarter of an hour to
an hour and a half each on one CPU core; size=tiny checks in a minute that everything works.
recipes=confirmed prunes strictly alone, and until a circuit is within the target on 256 more pairs.
--config.again=True prunes again for every scorecard: from other seeds, for a control and for backups. That
adds 3 to 15 minutes of CPU time for each circuit.
"""

from ml_collections import ConfigDict

from experiments.configs.arguments import parse
from experiments.configs.sections import small_pair_pruning
from sparse_jax.tasks.built_in import TASKS

# tasks with circuits of some size in both models come first
FIRST = ("for_while", "single_double_quote", "final_kwarg", "with_open", "set_or_string", "bracket_counting")
# answers that are an arbitrary function of the prompt
CONTROLS = ("for_while.hashed", "single_double_quote.hashed", "with_open.hashed")


def get_config(argument: str = "") -> ConfigDict:
    """`models` by side, `recipes` of pruning, the test `pairs` of a scorecard, `tasks`, and `again`."""
    chosen = parse(argument, {"size": ("full", "tiny"), "recipes": ("two", "confirmed")})
    size, strict = chosen["size"], {"ablation": "mean+resample+stochastic", "confidence": 1.64}
    recipes = {"mean": small_pair_pruning(), "strict": small_pair_pruning(**strict)}
    if chosen["recipes"] == "confirmed":
        recipes = {"confirmed": small_pair_pruning(**strict, confirmation_pairs=256)}
    parts = [name for name in (chosen["recipes"], size) if name not in ("two", "full")]
    config = ConfigDict(
        {
            "workdir": "_".join(["runs/faithfulness", *parts]),
            "models": {side: f"experiments/results/small/{side}" for side in ("sparse", "dense")},
            "tasks": tuple(dict.fromkeys((*FIRST, *CONTROLS, *TASKS))),
            "pairs": 128,
            "again": False,
            "recipes": recipes,
        }
    )
    if size == "tiny":
        config.tasks, config.pairs = ("for_while",), 8
        for section in config.recipes.values():
            section.update(steps=20, pairs_per_step=4, train_pairs=16, validation_pairs=8, test_pairs=8)
            section.update(target_loss=0.5, confirmation_pairs=min(8, section.confirmation_pairs))
    return config
