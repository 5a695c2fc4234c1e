"""The plan of a circuit-size study: all its settings, checked and saved with the results."""

import dataclasses
import functools
import json
from collections.abc import Mapping
from pathlib import Path

from experiments.studies.circuit_size.rankings import RANKINGS
from sparse_jax.files import read_json_object, write_whole
from sparse_jax.inputs import InputError, from_mapping, require, require_choice
from sparse_jax.pruning.config import PruneConfig
from sparse_jax.pruning.recipe import Recipe, SearchConfig, require_targets

PLAN = "plan.json"


@dataclasses.dataclass(frozen=True)
class StudyConfig:
    """What a circuit-size study covers, the same for both models.

    targets: task losses in nats. headline: the target shown in tables. edge_targets: the targets at which
    edges are pruned too. edge_lanes: prunings of edges per circuit of nodes. rankings: baselines.
    tasks_together: how many tasks are searched side by side in one program (more than one does not help on a
    CPU). seed: for the bootstrap and the random ranking.

    Raises InputError naming `study.<field>`.
    """

    targets: tuple[float, ...] = (0.02, 0.05, 0.15, 0.5)
    headline: float = 0.15
    edge_targets: tuple[float, ...] = (0.02, 0.05, 0.15, 0.5)
    edge_lanes: int = 4
    rankings: tuple[str, ...] = ("attribution", "magnitude", "random")
    tasks_together: int = 1
    seed: int = 0

    def __post_init__(self) -> None:
        require_targets("study.targets", self.targets)
        for name in ("headline", "edge_targets"):
            given = getattr(self, name)
            inside = {given} if name == "headline" else set(given)
            require(inside <= set(self.targets), f"study.{name}", given, f"among the targets {self.targets}")
        for name in ("edge_lanes", "tasks_together"):
            require(getattr(self, name) >= 1, f"study.{name}", getattr(self, name), "at least 1")
        for ranking in self.rankings:
            require_choice("study.rankings", ranking, RANKINGS)
        require(self.seed >= 0, "study.seed", self.seed, "at least 0")


@dataclasses.dataclass(frozen=True)
class Plan:
    """All settings of a study. prune: for nodes, the center of the search; edge_prune: for edges.

    Raises InputError naming the field.
    """

    study: StudyConfig
    search: SearchConfig
    prune: PruneConfig
    edge_prune: PruneConfig

    def __post_init__(self) -> None:
        self.recipe  # noqa: B018 (checks that the parts fit each other)

    @functools.cached_property
    def recipe(self) -> Recipe:
        """How circuits are searched for in both models."""
        study = self.study
        edges = (self.edge_prune, study.edge_targets, study.edge_lanes)
        return Recipe(self.prune, self.search, study.targets, *edges)

    def wanted(self) -> list[tuple[str, float]]:
        """All pairs of a method and a target that it is used at."""
        study = self.study
        ranked = [(name, target) for name in study.rankings for target in study.targets]
        return [*self.recipe.learned, *ranked]


def read_plan(config: Mapping[str, Mapping[str, object]]) -> Plan:
    """The plan of the sections study, search, pruning, edge_pruning. Raises InputError naming the field."""
    return Plan(
        from_mapping(StudyConfig, config["study"], "study"),
        from_mapping(SearchConfig, config["search"], "search"),
        from_mapping(PruneConfig, config["pruning"], "pruning"),
        from_mapping(PruneConfig, config["edge_pruning"], "edge_pruning"),
    )


def keep_plan(
    plan: Plan, weights: Mapping[str, str], pairs: Mapping[str, Mapping[str, str]], workdir: Path
) -> None:
    """Writes to `workdir` the plan, a hash of each model's weights and, by model and task, of the pairs.

    Tasks, `edge_targets` and `rankings` may be added later, since their rows do not depend on others. Raises
    InputError if the workdir belongs to another plan or model, or if a task has other pairs there.
    """
    path = workdir / PLAN
    now = json.loads(json.dumps({**dataclasses.asdict(plan), "weights": dict(weights)}))
    for name in ("tasks_together", "edge_targets", "rankings"):
        now["study"].pop(name)
    before = read_json_object(path) if path.exists() else {}
    for section, fields in now.items() if before else ():
        for name, value in fields.items():
            old = before[section].get(name) if isinstance(before.get(section), dict) else None
            if old != value:
                raise InputError(
                    f"workdir: {workdir} has a study with another plan ({section}.{name} "
                    f"{old!r} there, {value!r} here); valid: a new one"
                )
    known = {name: dict(tasks) for name, tasks in before.get("pairs", {}).items()}
    for name, tasks in pairs.items():
        for task, value in tasks.items():
            if known.setdefault(name, {}).setdefault(task, value) != value:
                raise InputError(
                    f"tasks: {task} had other pairs when {path} was written; "
                    "valid: a new workdir, or another name"
                )
    write_whole(path, json.dumps({**now, "pairs": known}, indent=1, allow_nan=False) + "\n")
