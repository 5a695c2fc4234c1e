"""The plan of a study of circuit sizes: all its settings, checked, and kept beside what came of them."""

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path

from experiments.studies.circuit_size.rankings import RANKINGS
from sparse_jax.ablation.kinds import CONSTANT_ABLATIONS
from sparse_jax.files import write_whole
from sparse_jax.inputs import InputError, from_mapping, require, require_choice
from sparse_jax.pruning.config import PruneConfig
from sparse_jax.pruning.trials import SearchConfig, require_targets

PLAN = "plan.json"


@dataclasses.dataclass(frozen=True)
class StudyConfig:
    """What a study of sizes covers; both models get the same.

    targets: task losses in nats; headline: the one of the tables. edge_targets: those that get circuits of
    gated edges as well. finalists: how many of a search's best trials at each target are compared exactly.
    edge_lanes: prunings of edges that start from a circuit of nodes. rankings: baselines. tasks_together: how
    many tasks are searched side by side in one program (a CPU gains nothing from more than one). seed: of
    the bootstrap and the random ranking.

    Raises InputError naming `study.<field>`.
    """

    targets: tuple[float, ...] = (0.02, 0.05, 0.15, 0.5)
    headline: float = 0.15
    edge_targets: tuple[float, ...] = (0.02, 0.05, 0.15, 0.5)
    finalists: int = 2
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
        for name in ("finalists", "edge_lanes", "tasks_together"):
            require(getattr(self, name) >= 1, f"study.{name}", getattr(self, name), "at least 1")
        for ranking in self.rankings:
            require_choice("study.rankings", ranking, RANKINGS)
        require(self.seed >= 0, "study.seed", self.seed, "at least 0")


@dataclasses.dataclass(frozen=True)
class Plan:
    """All settings of a study. prune: of nodes, the center of the search; edge_prune: of edges.

    What a circuit is and how it is judged has to be the same for both. Raises InputError naming the field.
    """

    study: StudyConfig
    search: SearchConfig
    prune: PruneConfig
    edge_prune: PruneConfig

    def __post_init__(self) -> None:
        unknown = set(self.search.targets) - set(self.study.targets)
        valid = f"among study.targets {self.study.targets}"
        require(not unknown, "search.targets", self.search.targets, valid)
        for name in ("sites", "objective", "frozen_norms", "tied_qk"):
            given, nodes = getattr(self.edge_prune, name), getattr(self.prune, name)
            require(given == nodes, f"edge_pruning.{name}", given, f"that of pruning, {nodes!r}")
        held = self.prune.ablation if self.prune.ablation in CONSTANT_ABLATIONS else "mean"
        require(
            self.edge_prune.ablation == held, "edge_pruning.ablation", self.edge_prune.ablation, repr(held)
        )

    def wanted(self) -> list[tuple[str, float]]:
        """Every method with every target that it is used at."""
        study = self.study
        pairs = [("nodes", target) for target in study.targets]
        pairs += [("edges", target) for target in study.edge_targets]
        return pairs + [(name, target) for name in study.rankings for target in study.targets]


def read_plan(config: Mapping[str, Mapping[str, object]]) -> Plan:
    """The plan of the sections study, search, pruning, edge_pruning. Raises InputError naming the field."""
    return Plan(
        from_mapping(StudyConfig, config["study"], "study"),
        from_mapping(SearchConfig, config["search"], "search"),
        from_mapping(PruneConfig, config["pruning"], "pruning"),
        from_mapping(PruneConfig, config["edge_pruning"], "edge_pruning"),
    )


def keep_plan(plan: Plan, weights: Mapping[str, str], workdir: Path) -> None:
    """Notes plan and weights in `workdir`. Raises InputError if it is that of another plan or model.

    More `edge_targets` and `rankings` may be asked for later: their rows depend on no others.
    """
    path = workdir / PLAN
    now = json.loads(json.dumps({**dataclasses.asdict(plan), "weights": dict(weights)}))
    for name in ("tasks_together", "edge_targets", "rankings"):
        now["study"].pop(name)
    if not path.exists():
        write_whole(path, json.dumps(now, indent=1) + "\n")
        return
    try:
        before = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise InputError(f"workdir: {path} is not the plan of a study ({error})") from None
    for section, fields in now.items():
        for name, value in fields.items():
            old = before.get(section, {}).get(name)
            if old != value:
                raise InputError(
                    f"workdir: {workdir} holds a study with another plan ({section}.{name} "
                    f"{old!r} there, {value!r} here); valid: a new one"
                )
