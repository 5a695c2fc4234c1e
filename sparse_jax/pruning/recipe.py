"""How circuits are searched for, the same for every task of a model."""

import dataclasses
from collections.abc import Sequence

from sparse_jax.inputs import require, whole_seed
from sparse_jax.pruning.config import PruneConfig


@dataclasses.dataclass(frozen=True)
class SearchConfig:
    """How much is tried for a task: `rounds` of `lanes` prunings side by side.

    rounds: 0 prunes once, with lanes that differ only in their seed; with more, each round chooses
    hyperparameters for its lanes from the results of earlier rounds. targets: the losses that it aims at, in
    turn (default: those of the recipe); every pruning is judged at all of them. finalists: how many of the
    best prunings per target are compared exactly at the end; without rounds, all are.
    Raises InputError naming `search.<field>`.
    """

    lanes: int = 1
    rounds: int = 0
    targets: tuple[float, ...] = ()
    finalists: int = 2
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("lanes", "finalists"):
            require(getattr(self, name) >= 1, f"search.{name}", getattr(self, name), "at least 1")
        require(self.rounds >= 0, "search.rounds", self.rounds, "at least 0")
        whole_seed("search.seed", self.seed)
        if self.targets:
            require_targets("search.targets", self.targets)


def require_targets(field: str, targets: Sequence[float]) -> None:
    """Raises InputError unless `targets` are one or more losses above 0, none twice."""
    valid = len(targets) > 0 and min(targets) > 0 and len(set(targets)) == len(targets)
    require(valid, field, targets, "one or more losses above 0, none twice")


@dataclasses.dataclass(frozen=True)
class Recipe:
    """Everything that decides how circuits are found.

    prune: settings for pruning nodes, the center of a search. targets: losses in nats, with one circuit each
    (default: `prune.target_loss`). edge_prune: settings for pruning edges inside the circuits of nodes; None
    prunes nodes only. edge_targets: the targets at which edges are pruned (default: all, if `edge_prune` is
    given). edge_lanes: the number of prunings of edges per circuit of nodes, with different penalties per
    edge.

    Settings that define what a circuit is and how it is judged must be the same for nodes and edges. Raises
    InputError naming the field.
    """

    prune: PruneConfig
    search: SearchConfig = SearchConfig()
    targets: tuple[float, ...] = ()
    edge_prune: PruneConfig | None = None
    edge_targets: tuple[float, ...] | None = None
    edge_lanes: int = 1

    def __post_init__(self) -> None:
        valid = "another objective; faithfulness.removal finds sets to remove, which are no circuits"
        require(not self.prune.is_removal, "pruning.objective", self.prune.objective, valid)
        given = self.targets or (self.prune.target_loss,)
        object.__setattr__(self, "targets", tuple(given))
        require_targets("targets", self.targets)
        require(self.edge_lanes >= 1, "edge_lanes", self.edge_lanes, "at least 1")
        edges = self.edge_targets or ()
        require(self.edge_prune is not None or not edges, "edge_targets", edges, "none without edge_prune")
        for name, some in (("search.targets", self.search.targets), ("edge_targets", edges)):
            require(set(some) <= set(self.targets), name, some, f"among the targets {self.targets}")
        if self.edge_prune is not None:
            self._check_edges(self.edge_prune)

    def _check_edges(self, edge_prune: PruneConfig) -> None:
        # edges that are closed carry the ablation value of their source, and know no constants
        require(not self.prune.constants, "pruning.constants", True, "False with gates on edges")
        same = ("sites", "objective", "gate", "ablation", "frozen_norms", "tied_qk", "constants")
        pairs = ("train_pairs", "validation_pairs", "confirmation_pairs", "test_pairs", "shifts")
        for name in (*same, *pairs):
            given, nodes = getattr(edge_prune, name), getattr(self.prune, name)
            require(given == nodes, f"edge_pruning.{name}", given, f"that of pruning, {nodes!r}")
        # edges are pruned inside circuits of nodes, which have none that is forbidden there
        given, nodes = edge_prune.forbidden, self.prune.forbidden
        require(given in ((), nodes), "edge_pruning.forbidden", given, f"(), or that of pruning, {nodes!r}")

    @property
    def learned(self) -> tuple[tuple[str, float], ...]:
        """The circuits to find: pairs of a kind, "nodes" or "edges", and a target."""
        nodes = [("nodes", target) for target in sorted(self.targets)]
        if self.edge_prune is None:
            return tuple(nodes)
        wanted = self.targets if self.edge_targets is None else self.edge_targets
        return (*nodes, *(("edges", target) for target in sorted(wanted)))
