"""All prunings of the search that found a circuit, each with the circuit that it leads to."""

import dataclasses
import os
from typing import Any

import numpy as np

from sparse_jax.circuits.applied import values_of
from sparse_jax.circuits.edges import find_edges, kept_nodes
from sparse_jax.circuits.gates import Gates, tie
from sparse_jax.circuits.graph import Circuit, Edge, Node
from sparse_jax.circuits.ranking import number_units
from sparse_jax.files import user_path
from sparse_jax.inputs import InputError, from_mapping, require
from sparse_jax.models.model import Model
from sparse_jax.phrases import counted
from sparse_jax.pruning.config import PruneConfig
from sparse_jax.pruning.extract import carried_values
from sparse_jax.pruning.logits import allowed_nodes
from sparse_jax.pruning.store import search_of
from sparse_jax.pruning.trials import JOURNAL, Outcome, Trial, Trials
from sparse_jax.trees import Arrays


@dataclasses.dataclass(frozen=True)
class Pruning:
    """A trial, its outcome at the circuit's target, and the circuit of its best-ranked nodes behind that.

    Nothing is eliminated from it. It has no node if the pruning broke down.
    """

    trial: Trial
    outcome: Outcome
    nodes: tuple[Node, ...]
    edges: tuple[Edge, ...]


@dataclasses.dataclass(frozen=True)
class Prunings:
    """The judged prunings of a search for a task, in the order in which they were made.

    circuit: the fingerprint of the one that the search found.
    """

    task: str
    circuit: str
    found: tuple[Pruning, ...]

    def to_json(self) -> dict[str, Any]:
        """All of it, for a page: of each the number, the parameters, the loss, and its nodes and edges."""
        prunings = [
            {
                "number": one.trial.number,
                "parameters": dict(one.trial.parameters),
                "loss": one.outcome.loss,
                "nodes": [list(dataclasses.astuple(node)) for node in one.nodes],
                "edges": [list(dataclasses.astuple(edge)) for edge in one.edges],
            }
            for one in self.found
        ]
        about = {"task": self.task, "of": self.circuit}
        return {"format": "sparse_jax.prunings", "version": 1, **about, "prunings": prunings}

    def __repr__(self) -> str:
        with_nodes = [one for one in self.found if one.nodes]
        sizes = [f"{counted(len(one.edges), 'edge')} at {one.outcome.loss:.3f}" for one in with_nodes]
        return f"Prunings({self.task}: {', '.join(sizes) or 'none was judged'})"


def prunings(model: Model, circuit: Circuit, folder: str | os.PathLike | None = None) -> Prunings:
    """All prunings of the search that found the circuit, at the circuit's target.

    For a page: `sj.view(circuit, prunings=sj.prunings(model, circuit))`. folder: that of the search; by
    default, the one beside the circuit's file, found by its hash. Lanes without a search (`search=0`) are
    only judged until the first reaches the target, so there is none to show.

    Raises InputError for a circuit of another model, a folder that is not of the search that found the
    circuit, by how its first pruning ended, or not at its target or in this model, and without a folder if no
    search is beside the circuit's file.

    >>> import sparse_jax as sj
    >>> model = sj.load("experiments/results/small/sparse")
    >>> path = "experiments/results/faithfulness/circuits/sparse/mean/else_elif.json"
    >>> circuit = sj.load_circuit(path, model)
    >>> sj.prunings(model, circuit)  # published without its search
    Traceback (most recent call last):
    sparse_jax.inputs.InputError: folder: the circuit has no search beside its file; ...
    """
    values = values_of(model, circuit)  # refuses a circuit of another model
    require("pruning" in circuit.provenance, "circuit", "no settings", "one that was found by pruning")
    path = search_of(circuit) if folder is None else user_path(folder, "folder")
    if path is None:
        raise InputError(
            "folder: the circuit has no search beside its file; valid: the folder of one, with its "
            f"{JOURNAL}, or a circuit where pruning put it"
        )
    task = str(circuit.provenance.get("task"))
    require((path / JOURNAL).is_file(), "folder", str(path), f"a folder of a search, with its {JOURNAL}")
    trials = Trials(path)
    known = {name: value for name, value in circuit.provenance.items() if name in trials.first}
    require(known.items() <= trials.first.items(), "folder", str(path), "the search that found the circuit")
    prune = from_mapping(PruneConfig, {"swaps": False, **circuit.provenance["pruning"]}, "pruning")
    carried, target = carried_values(prune, values), circuit.losses["target"]
    judged, found = [one for one in trials.trials if one.outcomes], []
    targets = sorted({outcome.target for trial in judged for outcome in trial.outcomes})
    valid = f"a search at the circuit's target {target:g}"
    require(not judged or target in targets, "folder", f"{path}, at {targets}", valid)
    for trial in judged:
        outcome = trial.at(target)
        nodes: tuple[Node, ...] = ()
        edges: tuple[Edge, ...] = ()
        if outcome.loss is not None:
            nodes, edges = _best(model, prune, trials.logits(trial), outcome.nodes, carried)
            if (len(nodes), len(edges)) != (outcome.nodes, outcome.edges):
                raise InputError(
                    f"folder: pruning {trial.number} of {path} has {outcome.nodes} nodes and {outcome.edges} "
                    f"edges, but {len(nodes)} and {len(edges)} in this model; valid: a search in this model"
                )
        found.append(Pruning(trial, outcome, nodes, edges))
    return Prunings(task, circuit.fingerprint, tuple(found))


def _best(
    model: Model, prune: PruneConfig, logits: Arrays, count: int, carried: Gates
) -> tuple[tuple[Node, ...], tuple[Edge, ...]]:
    """The `count` best-ranked nodes by their gate logits, and the edges between them."""
    scores = tie(dict(logits), prune.tied_qk)
    eligible, _ = allowed_nodes(model.config, prune)
    each = {site: np.ones(np.shape(tau)) for site, tau in scores.items()}
    units = number_units(each if eligible is None else eligible, prune.tied_qk)
    order = np.argsort(-units.totals(logits), kind="stable")
    sizes = np.cumsum(units.totals(each)[order])
    needed = int(np.searchsorted(sizes, count)) + 1 if count else 0
    ranks = units.ranks(order)
    gates = {site: ((rank >= 0) & (rank < needed)).astype(np.float32) for site, rank in ranks.items()}
    nodes = kept_nodes(gates, carried, scores, model.config.n_layers)
    return nodes, find_edges(model.params, nodes, gates)
