"""From a task to its circuits: search, discretize, eliminate, prune edges, measure, store."""

import dataclasses
import functools
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from sparse_jax.ablation.judge import Judge
from sparse_jax.circuits.graph import Circuit
from sparse_jax.data.corpus import Corpus
from sparse_jax.inputs import InputError, require
from sparse_jax.models.model import Model
from sparse_jax.pruning.config import PruneConfig
from sparse_jax.pruning.extract import circuit_of, reduced_of
from sparse_jax.pruning.lanes import make_lanes
from sparse_jax.pruning.logits import allowed_nodes
from sparse_jax.pruning.recipe import Recipe
from sparse_jax.pruning.reduce import Reduced, reduce_edges, reduce_nodes
from sparse_jax.pruning.search import search_tasks
from sparse_jax.pruning.step import Lane
from sparse_jax.pruning.subject import Subject, prepare_subject
from sparse_jax.pruning.trials import SEARCHED, Trials
from sparse_jax.runtime.provenance import provenance
from sparse_jax.tasks.encode import check_pairs
from sparse_jax.tasks.task_data import TaskData, same_length
from sparse_jax.trees import fingerprint

# The factor between the penalties per edge that lanes of edges try side by side.
PRICE_FACTOR = 3.0


class TaskBeyondModelError(InputError):
    """The full model misses the target loss, so its circuits cannot be judged by that target."""


class Found(NamedTuple):
    """A circuit of "nodes" or "edges" for a task at a target; None if every pruning broke down."""

    data: TaskData
    method: str
    target: float
    circuit: Circuit | None


def reachable(subject: Subject, data: TaskData, recipe: Recipe) -> tuple[float, tuple[float, ...]]:
    """The full model's validation loss, and the targets that it reaches.

    A control of the task or of the model is judged at all targets: there is no reason to reach any of them.
    """
    loss = subject.full_loss(data, recipe.prune)
    is_control = data.is_control or subject.model.is_control
    return loss, tuple(target for target in recipe.targets if is_control or loss <= target)


def find_circuits(
    subject: Subject,
    tasks: Sequence[TaskData],
    recipe: Recipe,
    targets: Mapping[str, Sequence[float]],
    label: str = "prune",
) -> Iterator[Found]:
    """Yields the circuits of nodes and then of edges for each task, the strictest target first.

    targets: by task, those that the full model reaches. All tasks are searched together. Each circuit is
    stored (`subject.store`) before it is yielded, and one that is already stored is not searched again.
    """
    roads = [_Road(subject, data, recipe, tuple(targets[data.name]), label) for data in tasks]
    missing = [road for road in roads if road.missing("nodes")]
    trials = search_tasks(subject, [road.data for road in roads], targets, recipe, label) if missing else {}
    for road in roads:
        yield from road.nodes(trials.get(road.data.name))
        yield from road.edges()


@dataclasses.dataclass(frozen=True)
class _Road:
    """One task of `find_circuits`."""

    subject: Subject
    data: TaskData
    recipe: Recipe
    targets: tuple[float, ...]
    label: str

    def missing(self, method: str) -> list[float]:
        """The targets without a stored circuit, the strictest first."""
        wanted = [target for kind, target in self.recipe.learned if kind == method and target in self.targets]
        return [target for target in wanted if self._kept(method, target) is None]

    def nodes(self, trials: Trials | None) -> Iterator[Found]:
        """Finds circuits of nodes; all if one is missing, since looser targets build on stricter ones."""
        recipe, missing = self.recipe, self.missing("nodes")
        made: Iterator[Reduced] = iter(())
        if missing and trials is not None:
            finalists = trials.finalists(recipe.search, self.targets)
            if finalists:
                fresh = self.subject.fresh_judge(self.data, recipe.prune)
                made = reduce_nodes(self._judge, finalists, self.targets, recipe.prune, fresh)
        about = None if trials is None else trials.about
        for target in sorted(self.targets):
            circuit, reduced = self._kept("nodes", target), next(made, None)
            if circuit is None and reduced is not None and about is not None:
                circuit = self._keep("nodes", reduced, recipe.prune, about)
            yield Found(self.data, "nodes", target, circuit)

    def edges(self) -> Iterator[Found]:
        """The circuits of edges, inside the stored circuits of nodes; training resumes where it stopped."""
        for method, target in self.recipe.learned:
            if method == "edges" and target in self.targets:
                circuit = self._kept("edges", target) or self._edges(target)
                yield Found(self.data, "edges", target, circuit)

    def _edges(self, target: float) -> Circuit | None:
        nodes, prune = self._kept("nodes", target), self.recipe.edge_prune
        if nodes is None or prune is None:
            return None
        subject, lanes = self.subject, _edge_lanes(prune, self.recipe.edge_lanes)
        path = subject.store.search(f"{self.data.name}-edges-{self._identity('edges', target)}.npz")
        label = f"{self.label} edges"
        judge = dataclasses.replace(subject.judge(self.data.validation, prune), label=label)
        nodes_alone = reduced_of(nodes, subject.model.config)
        fresh = subject.fresh_judge(self.data, prune)
        reduced = reduce_edges(judge, self.data.train, nodes_alone, prune, lanes, label, path, fresh)
        about = {name: nodes.provenance[name] for name in SEARCHED if name in nodes.provenance}
        about["prunings"] += len(lanes.seed)
        circuit = self._keep("edges", reduced, prune, about)
        if path is not None:
            path.unlink(missing_ok=True)
        return circuit

    @functools.cached_property
    def _judge(self) -> Judge:
        judge = self.subject.judge(self.data.validation, self.recipe.prune)
        return dataclasses.replace(judge, label=self.label)

    def _kept(self, method: str, target: float) -> Circuit | None:
        store = self.subject.store
        circuit = store.circuit(self._identity(method, target), self.data.name)
        if circuit is not None and circuit.provenance["task"] != self.data.name:
            # the same pairs were given under another name before
            circuit = dataclasses.replace(circuit, provenance={**circuit.provenance, "task": self.data.name})
            return store.keep(circuit, self._name(method, target))
        return circuit

    def _keep(
        self, method: str, reduced: Reduced, prune: PruneConfig, about: Mapping[str, object]
    ) -> Circuit:
        identity = self._identity(method, reduced.target)
        search = dataclasses.asdict(self.recipe.search)
        origin = {**provenance(), "identity": identity, "search": search, **about}
        circuit = circuit_of(self.subject, self.data, prune, reduced, origin)
        return self.subject.store.keep(circuit, self._name(method, reduced.target))

    def _name(self, method: str, target: float) -> str:
        """A file name for people, just long enough to tell the circuits of a recipe apart."""
        parts = [self.data.name]
        parts += [f"{target:g}"] if len(self.recipe.targets) > 1 else []
        parts += ["nodes"] if method == "nodes" and self.recipe.edge_prune else []
        return "-".join(parts)

    def _identity(self, method: str, target: float) -> str:
        """A hash of everything that determines the result: weights, ablation values, pairs, settings."""
        recipe = self.recipe
        edges = (recipe.edge_prune, recipe.edge_lanes) if method == "edges" else ()
        settings = recipe.prune, recipe.search, self.targets, method, target, edges
        about = self.subject.about(self.data, recipe.prune)
        return fingerprint({**about, "settings": repr(settings)})[:16]


def _edge_lanes(prune: PruneConfig, count: int) -> Lane:
    lanes = make_lanes(prune, count)
    factors = PRICE_FACTOR ** (np.arange(count) - (count - 1) / 2)
    return dataclasses.replace(
        lanes, hyper=dataclasses.replace(lanes.hyper, k_coef=lanes.hyper.k_coef * factors)
    )


def prune_tasks(
    model: Model,
    corpus: Corpus | None,
    tasks: Sequence[TaskData],
    recipe: Recipe,
    directory: str | os.PathLike | None,
    label: str = "prune",
    leave_out: bool = True,
) -> list[Circuit | None]:
    """One circuit per task at the single target of `recipe`: of edges if it asks for them, else of nodes.

    They are kept in `directory` (see `Store`), as `<task>.json`; without one nothing is kept. None for a task
    that the full model cannot do, which is said; if not `leave_out`, TaskBeyondModelError is raised then.
    If no circuit reaches the target, a message says how near the closest one comes (`missed`).
    Raises InputError, before any pruning, if there is no task, `corpus` is not the model's or pairs have
    tokens that the model does not have; and if every pruning of a task broke down.
    """
    require(len(tasks) > 0, "tasks", [], "at least one task")
    for data in tasks:
        for pairs in data.splits:
            check_pairs(model.config, pairs)
    (target,) = recipe.targets
    allowed_nodes(model.config, recipe.prune)  # names that are wrong are refused before any work
    subject = prepare_subject(model, recipe.prune, directory, corpus)
    circuits: list[Circuit | None] = []
    for data in same_length(tasks):
        circuit = None
        try:
            _require_ability(subject, data, recipe)
            (*_, found) = find_circuits(
                subject, [data], recipe, {data.name: (target,)}, f"{label} {data.name}"
            )
            circuit = found.circuit
            if circuit is None:
                raise InputError(
                    f"pruning: all {recipe.search.lanes} lanes broke down (a loss or logits are not finite); "
                    "valid: a lower pruning.learning_rate, or a model with finite weights"
                )
        except TaskBeyondModelError as error:
            if not leave_out:
                raise
            print(f"{data.name}: left out: {error}")
        if circuit is not None and not circuit.provenance["reached"]:
            print(missed(circuit))
        circuits.append(circuit)
    return circuits


def missed(circuit: Circuit) -> str:
    """A line that says by how much a circuit misses its target, on which pairs and under which ablation."""
    losses, settings = circuit.losses, circuit.provenance["pruning"]
    confidence, ablation = settings["confidence"], settings["ablation"]

    def bound(name: str) -> float:
        return losses[name] + confidence * (losses[f"{name}_error"] or 0.0)

    # what was confirmed was within the target on the validation pairs
    confirmed = "confirmation" in losses and bound("confirmation") > losses["target"]
    pairs = "confirmation" if confirmed else "validation"
    # circuits of a single kind, and of earlier versions, do not tell kinds apart
    kinds = {f"{pairs}, {kind}": kind for kind in ablation.split("+") if f"{pairs}, {kind}" in losses}
    worst = max(kinds, key=bound, default=pairs)
    added = f" ({bound(worst):.3f} with {confidence:g} standard errors)" if confidence else ""
    return (
        f"{circuit.provenance['task']}: target {losses['target']:g} not reached; the closest circuit has "
        f"{losses[worst]:.3f} nats{added} under {kinds.get(worst, ablation)} ablation, on the {pairs} pairs"
    )


def _require_ability(subject: Subject, data: TaskData, recipe: Recipe) -> None:
    """Raises TaskBeyondModelError if the full model misses the target; for a control, prints its loss."""
    loss, targets = reachable(subject, data, recipe)
    if data.is_control or subject.model.is_control:
        print(f"{data.name}: a control; the full model is at {loss:.3f} nats", file=sys.stderr)
    elif not targets:
        raise TaskBeyondModelError(
            f"pruning.target_loss: {recipe.prune.target_loss} is below the loss {loss:.3f} of the full model "
            f"on {data.name}; valid: a target above it, or a task that the model can do"
        )
