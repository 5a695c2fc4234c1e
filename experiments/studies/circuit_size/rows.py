"""The rows of a task: its smallest circuits by every method, each measured once on the test split."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from experiments.studies.circuit_size.plan import Plan
from experiments.studies.circuit_size.rankings import RANKINGS, ranked_circuits
from experiments.studies.circuit_size.sizes import LEARNED, MISSED, REACHED, SizeRow
from sparse_jax.ablation.judge import Judge
from sparse_jax.circuits.edges import count_edges, count_nodes
from sparse_jax.circuits.graph import Circuit, load_circuit
from sparse_jax.pruning.config import PruneConfig
from sparse_jax.pruning.discretize import Discretized
from sparse_jax.pruning.lanes import make_lanes
from sparse_jax.pruning.prune import TaskData, circuit_of, reduced_of
from sparse_jax.pruning.reduce import Reduced, reduce_edges, reduce_nodes
from sparse_jax.pruning.step import Lane
from sparse_jax.pruning.subject import Subject
from sparse_jax.pruning.trials import Trials
from sparse_jax.tasks.metrics import summarize

# How far apart the prices of an edge are that are tried side by side.
PRICE_FACTOR = 3.0


@dataclasses.dataclass(frozen=True)
class Case:
    """A task of a model: its pairs, the trials of its search, the full model's validation loss.

    targets: those that the full model reaches.
    """

    subject: Subject
    data: TaskData
    trials: Trials
    unpruned: float
    targets: tuple[float, ...]
    plan: Plan

    def rows(self, missing: Sequence[tuple[str, float]]) -> Iterator[SizeRow]:
        """Yields the row of each (method, target) of `missing`; a learned circuit is on disk before it."""
        if any(method in LEARNED for method, _ in missing):
            yield from self._learned(missing)
        for ranking in RANKINGS:
            targets = [target for method, target in missing if method == ranking]
            if targets:
                prune, seed = self.plan.prune, self.plan.study.seed
                found = ranked_circuits(self.subject, self.data, ranking, targets, prune, seed)
                for target, one in zip(targets, found, strict=True):
                    yield self._ranked(ranking, target, one)

    def _learned(self, missing: Sequence[tuple[str, float]]) -> Iterator[SizeRow]:
        """Nodes first at every target, for looser ones build on stricter ones; then edges inside of them."""
        finalists = self._finalists()
        if not finalists:  # every pruning broke down
            for method, target in missing:
                if method in LEARNED:
                    yield SizeRow(*self._key(method, target), MISSED, self.unpruned, prunings=self._searched)
            return
        judge = self.subject.judge(self.data.validation, self.plan.prune)
        if any(method == "nodes" for method, _ in missing):
            for nodes in reduce_nodes(judge, finalists, self.targets, self.plan.prune.tied_qk):
                if ("nodes", nodes.target) in missing:
                    yield self._kept("nodes", nodes, self.plan.prune, self._searched)
        for method, target in missing:
            if method == "edges":
                yield self._edges(judge, target)

    def _edges(self, judge: Judge, target: float) -> SizeRow:
        """The row of edges inside of the circuit of nodes that is kept; goes on within the training."""
        nodes = reduced_of(load_circuit(self._circuit_path("nodes", target)), self.subject.model.config)
        prune, lanes = self.plan.edge_prune, self._edge_lanes()
        label = f"{self.subject.name}, {self.data.name}, edges at {target:g}"
        path = self.subject.directory / "search" / f"{self.data.name}_edges_{target:g}.npz"
        edges = reduce_edges(judge, self.data.train, nodes, prune, lanes, label, path)
        row = self._kept("edges", edges, prune, self._searched + len(lanes.seed))
        path.unlink(missing_ok=True)
        return row

    def _finalists(self) -> list[Mapping[str, np.ndarray]]:
        """The gate logits of the best trials at any of the targets."""
        count = self.plan.study.finalists
        best = {t.number: t for target in self.targets for t in self.trials.best(target, count)}
        return [self.trials.logits(one) for one in best.values() if one.outcomes[0].loss is not None]

    def _edge_lanes(self) -> Lane:
        count = self.plan.study.edge_lanes
        lanes = make_lanes(self.plan.edge_prune, count)
        factors = PRICE_FACTOR ** (np.arange(count) - (count - 1) / 2)
        return lanes.replace(hyper=lanes.hyper.replace(k_coef=lanes.hyper.k_coef * factors))

    def _kept(self, method: str, reduced: Reduced, prune: PruneConfig, prunings: int) -> SizeRow:
        search = dataclasses.asdict(self.plan.search)
        origin = {"weights": self.subject.weights, "search": search, "prunings": prunings}
        subject = self.subject
        circuit = circuit_of(subject.model, self.data, subject.means, prune, reduced, origin)
        circuit.save(self._circuit_path(method, reduced.target))
        return self._row_of(circuit, method, reduced, prunings)

    def _row_of(self, circuit: Circuit, method: str, reduced: Reduced, prunings: int) -> SizeRow:
        losses = circuit.losses
        return SizeRow(
            *self._key(method, reduced.target),
            outcome=REACHED if reduced.reached else MISSED,
            unpruned=self.unpruned,
            nodes=circuit.counts["nodes"],
            edges=circuit.counts["edges"],
            discretized_nodes=reduced.discretized["nodes"],
            discretized_edges=reduced.discretized["edges"],
            validation=losses["validation"],
            validation_error=losses["validation_error"],
            test=losses["circuit"],
            test_error=losses["circuit_error"],
            prunings=prunings,
        )

    def _ranked(self, method: str, target: float, found: Discretized) -> SizeRow:
        test = summarize(self.subject.judge(self.data.test, self.plan.prune).losses(found.gates))
        return SizeRow(
            *self._key(method, target),
            outcome=REACHED if found.reached else MISSED,
            unpruned=self.unpruned,
            nodes=count_nodes(found.gates),
            edges=count_edges(self.subject.model.params, found.gates),
            validation=found.loss,
            validation_error=found.standard_error,
            test=test.mean,
            test_error=test.standard_error,
        )

    def _circuit_path(self, method: str, target: float) -> Path:
        return self.subject.directory / "circuits" / self.data.name / f"{method}_{target:g}.json"

    def _key(self, method: str, target: float) -> tuple[str, str, float, str]:
        return self.subject.name, self.data.name, target, method

    @property
    def _searched(self) -> int:
        return len(self.trials.trials)
