"""What each node adds: the loss of a circuit's k best nodes for every k, and the loss without each node."""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from sparse_jax.circuits.applied import check_task
from sparse_jax.circuits.graph import Circuit, Node
from sparse_jax.faithfulness.probes import SETS, Probe, losses_of
from sparse_jax.inputs import require
from sparse_jax.models.model import Model
from sparse_jax.phrases import counted
from sparse_jax.progress import Progress
from sparse_jax.runtime.settings import require_settings
from sparse_jax.tasks.find import Spec, as_task


@dataclasses.dataclass(frozen=True)
class Contributions:
    """Losses in nats, means over `pairs` test pairs, of N nodes ordered by their scores, the best first.

    circuit: its fingerprint. best: [N + 1], of the first k nodes alone. in_circuit, in_model: [N], how much
    the loss grows if a node is ablated, in the circuit and in the full model.
    """

    task: str
    circuit: str
    pairs: int
    nodes: tuple[Node, ...]
    best: np.ndarray
    in_circuit: np.ndarray
    in_model: np.ndarray

    def to_json(self) -> dict[str, Any]:
        """All of it, for a page."""
        found = {name: getattr(self, name).tolist() for name in ("best", "in_circuit", "in_model")}
        kind = {"format": "sparse_jax.contributions", "version": 1, "task": self.task, "of": self.circuit}
        return {**kind, "pairs": self.pairs, "nodes": [node.name for node in self.nodes], **found}

    def __repr__(self) -> str:
        size = counted(len(self.nodes), "node")
        lines = [f"{self.task}: loss {self.best[-1]:.3f} with {size}; more without"]
        rows = zip(self.nodes, self.in_circuit, self.in_model)
        lines += [
            f"{node.name}: {own:+.3f} in the circuit, {full:+.3f} in the model" for node, own, full in rows
        ]
        return "\n".join(lines)


def contributions(
    model: Model, circuit: Circuit, task: Spec, *, pairs: int = 64, seed: int = 0
) -> Contributions:
    """Measures the loss of the circuit's best nodes for every number of them, and without each node.

    For a page: `sj.view(circuit, contributions=sj.contributions(model, circuit, task))`. Everything else is
    ablated as when the circuit was found; all edges between open nodes are open, and nothing is calibrated.
    Three forward passes of the pairs for each node. Raises InputError for a circuit of another model or
    task or without a node, and fewer than two pairs.

    >>> import sparse_jax as sj
    >>> model = sj.load("experiments/results/small/sparse")
    >>> path = "experiments/results/faithfulness/circuits/sparse/mean/else_elif.json"
    >>> found = sj.contributions(model, sj.load_circuit(path), "else_elif", pairs=8)
    >>> found.best.shape, found.in_circuit.shape
    ((3,), (2,))
    """
    require_settings()
    chosen = as_task(task)
    check_task(model, circuit, chosen)
    require(len(circuit.nodes) > 0, "circuit", "no nodes", "a circuit of at least one node")
    encoded = chosen.encode("test", pairs, seed, model.require_tokenizer(), model.config.context)
    probe = Probe(model, circuit, encoded)
    nodes = tuple(sorted(circuit.nodes, key=lambda node: -node.score))
    sets: list[tuple[Callable, list[tuple[Node, ...]]]] = [
        (probe.margins, [nodes[:k] for k in range(len(nodes) + 1)]),
        (probe.margins, [tuple(other for other in nodes if other is not node) for node in nodes]),
        (probe.margins_without, [(), *((node,) for node in nodes)]),
    ]
    best, without, model_without = _losses(probe, sets)
    in_model = model_without[1:] - model_without[0]
    about = chosen.name, circuit.fingerprint, len(encoded.last)
    return Contributions(*about, nodes, best, without - best[-1], in_model)


def _losses(probe: Probe, sets: Sequence[tuple[Callable, Sequence[Sequence[Node]]]]) -> list[np.ndarray]:
    """The mean loss [C] with each set of nodes, by its measure of their masks."""
    total, done = sum(len(of_sets) for _, of_sets in sets), 0
    progress, found = Progress("losses without each node", total, "sets"), []
    for measure, of_sets in sets:
        losses = []
        for part in _few(of_sets):
            losses.append(losses_of(measure(_masks(probe, part))).mean(axis=-1))
            progress.update(done := done + len(part))
        found.append(np.concatenate(losses))
    progress.close()
    return found


def _few(sets: Sequence[Sequence[Node]]) -> Iterator[Sequence[Sequence[Node]]]:
    """As many sets at a time as run in one call, so that never all masks are in memory."""
    for first in range(0, len(sets), SETS):
        yield sets[first : first + SETS]


def _masks(probe: Probe, sets: Sequence[Sequence[Node]]) -> dict[str, np.ndarray]:
    """Masks [C, L, N] by site, 1 at the nodes of each set."""
    masks = {site: np.zeros((len(sets), *np.shape(gate)), np.float32) for site, gate in probe.nodes.items()}
    for number, nodes in enumerate(sets):
        for node in nodes:
            masks[node.site][(number, *node.place)] = 1
    return masks
