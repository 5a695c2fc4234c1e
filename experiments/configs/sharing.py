"""What the circuits of all tasks share, in the small pair.

python -m experiments.sharing --config=experiments/configs/sharing.py --output=experiments/results/sharing

Some seconds on one CPU core.
"""

from ml_collections import ConfigDict

from sparse_jax.tasks.built_in import TASKS


def get_config() -> ConfigDict:
    """`models` by side, `circuits` (SIDE/RECIPE/TASK.json are below it), the `recipes` and the `tasks`."""
    return ConfigDict(
        {
            "models": {side: f"experiments/results/small/{side}" for side in ("sparse", "dense")},
            "circuits": "experiments/results/faithfulness/circuits",
            "recipes": ("mean", "strict"),
            "tasks": tuple(TASKS),
        }
    )
