"""How small circuits get: the sparse and the dense model of the small pair, on all twenty tasks.

python -m experiments.circuit_size --config=experiments/configs/circuit_size.py

It may be stopped at any time; the same command continues. Both models get the same effort: `search.rounds`
rounds of `search.lanes` prunings per task. size=full is the study in experiments/results/circuit_size; it
takes hours on two CPU cores (see its summary.json). Two commands with different --config.tasks may share a
workdir. With more time, --config.search.rounds=4 lets the search learn from its first round (on a GPU, also
set --config.study.tasks_together=20). size=quick has a third of the search; size=tiny checks in a minute that
everything works.
"""

import dataclasses

from ml_collections import ConfigDict

from experiments.configs.arguments import parse
from experiments.configs.sections import small_pair_pruning
from experiments.studies.circuit_size.plan import StudyConfig
from sparse_jax.pruning.recipe import SearchConfig
from sparse_jax.tasks.built_in import TASKS


def get_config(argument: str = "") -> ConfigDict:
    """Sections `study`, `search`, `pruning` (the center of the search), `edge_pruning`, and the tasks."""
    size = parse(argument, {"size": ("full", "quick", "tiny")})["size"]
    config = ConfigDict(
        {
            "workdir": "runs/circuit_size" if size == "full" else f"runs/circuit_size_{size}",
            "tasks": tuple(TASKS),
            "study": dataclasses.asdict(StudyConfig(edge_lanes=2)),
            "search": dataclasses.asdict(SearchConfig(lanes=8, rounds=1, targets=(0.15,), finalists=1)),
            "pruning": small_pair_pruning(),
            "edge_pruning": small_pair_pruning(),
        }
    )
    if size == "quick":
        config.search.lanes = 3
        config.study.edge_lanes = 1
    if size == "tiny":
        config.tasks = tuple(TASKS)[:2]
        config.study.update(targets=(0.5, 2.0), headline=2.0, edge_targets=(2.0,), edge_lanes=1)
        config.search.update(rounds=2, lanes=2, targets=(2.0,))
        for section in (config.pruning, config.edge_pruning):
            section.update(steps=10, pairs_per_step=4, train_pairs=16, validation_pairs=8, test_pairs=8)
            section.update(mean_windows=8)
    return config
