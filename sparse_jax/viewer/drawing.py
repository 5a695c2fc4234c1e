"""Circuits as compact lists, from which the report draws its pictures."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, SupportsFloat

from sparse_jax.circuits.graph import Circuit, Edge, Node
from sparse_jax.inputs import InputError
from sparse_jax.model import sites
from sparse_jax.viewer.plain import lines, number

# Limits for smooth drawing and a file of about 2 MB; the full counts are always shown too.
NODE_LIMIT = 3000
EDGE_LIMIT = 8000
# Of each of perhaps a hundred prunings of a search, so that the file stays small.
PRUNED_NODES, PRUNED_EDGES = 200, 400
DIGITS = 4

Exemplars = Mapping[str, Sequence[Mapping[str, Any]]]


@dataclasses.dataclass(frozen=True)
class TaskCircuit:
    """The circuit of one model for one task, with the exemplars of its nodes by node name.

    model: a short label such as "sparse" or "dense"; circuits of one task are drawn side by side. scorecard,
    meanings, traces, contributions, prunings: as their `to_json` gives them, code: as `Circuit.code` writes
    it, if it has them.
    """

    task: str
    model: str
    circuit: Circuit
    exemplars: Exemplars = dataclasses.field(default_factory=dict)
    scorecard: Mapping[str, Any] | None = None
    meanings: Mapping[str, Any] | None = None
    code: str | None = None
    traces: Mapping[str, Any] | None = None
    contributions: Mapping[str, Any] | None = None
    prunings: Mapping[str, Any] | None = None


def drawings(circuits: Sequence[TaskCircuit]) -> dict[str, object]:
    """{"sites", "circuits", "exemplars", "texts"}: the data of all pictures, and the texts that they share.

    Each circuit has rows [layer, number of site, index, mean, score] in forward order and edges [source row,
    target row, weight] from the strongest to the weakest. Of a huge circuit only the nodes with the highest
    scores and the strongest edges are included; "size" has the full counts. Exemplars are [before, token,
    after, value] by model and node name, with texts as indices into "texts". They do not depend on the task,
    so a node in ten circuits is stored once.

    Raises InputError if a task has two circuits of the same model.
    """
    drawn: list[dict[str, Any]] = []
    told: dict[str, dict[str, list]] = {}
    texts: dict[str, int] = {}
    for entry in circuits:
        if any((entry.task, entry.model) == (other["task"], other["model"]) for other in drawn):
            raise InputError(f"circuits: {entry.model!r} appears twice for {entry.task!r}; valid: once")
        nodes = _shown(entry.circuit.nodes, NODE_LIMIT)
        drawn.append(_drawn(entry, nodes))
        by_name = told.setdefault(entry.model, {})
        for node in nodes:
            if node.name in entry.exemplars and node.name not in by_name:
                by_name[node.name] = [_compact(found, texts) for found in entry.exemplars[node.name]]
    return {"sites": site_table(), "circuits": drawn, "exemplars": told, "texts": list(texts)}


def site_table() -> list[dict[str, object]]:
    """The node sites in the table's order, as the page's script needs them."""
    steps = sites.steps_of_a_layer()
    return [
        {
            "name": site.name,
            "step": steps[site.name],
            "stream": site.stream,
            "inLayers": site.in_layers,
            "meaning": site.meaning,
        }
        for site in sites.TABLE
        if site.nodes
    ]


def _shown(nodes: Sequence[Node], limit: int) -> list[Node]:
    """The nodes with the highest scores, in order of the forward pass."""
    best = sorted(nodes, key=lambda node: -node.score)[:limit]
    return sorted(best, key=lambda node: (node.layer, sites.NODE_SITES.index(node.site), node.index))


def _drawn(entry: TaskCircuit, nodes: Sequence[Node]) -> dict[str, object]:
    circuit = entry.circuit
    return {
        "task": entry.task,
        "model": entry.model,
        "size": {"nodes": len(circuit.nodes), "edges": len(circuit.edges)},
        "nodes": _rows(nodes),
        "edges": _strongest(circuit.nodes, circuit.edges, nodes, EDGE_LIMIT),
        "counts": {name: number(count) for name, count in circuit.counts.items()},
        "losses": {name: _short(loss) for name, loss in circuit.losses.items()},
        "headWidth": circuit.provenance.get("config", {}).get("model", {}).get("d_head"),
        "weights": circuit.provenance.get("weights"),
        "reached": number(circuit.provenance.get("reached")),
        "provenance": lines(circuit.provenance),
        "scorecard": None if entry.scorecard is None else _measured(entry.scorecard),
        "meanings": None if entry.meanings is None else _meant(entry.meanings),
        "code": entry.code,
        "traces": None if entry.traces is None else _traced(entry.traces),
        "contributions": None if entry.contributions is None else _contributed(entry.contributions),
        "prunings": [] if entry.prunings is None else _pruned(entry.prunings),
    }


def _contributed(found: Mapping[str, Any]) -> dict[str, object]:
    """Names of nodes, the best first, with losses of the first k and growth of the loss without each."""
    losses = {name: [_short(x) for x in found[name]] for name in ("best", "in_circuit", "in_model")}
    return {"pairs": found["pairs"], "nodes": list(found["nodes"]), **losses}


def _pruned(prunings: Mapping[str, Any]) -> list[dict[str, object]]:
    """Every pruning with its loss, its parameters as facts, and its circuit in the form of `_drawn`."""
    found: list[dict[str, object]] = []
    for one in prunings["prunings"]:
        nodes, edges = [Node(*row) for row in one["nodes"]], [Edge(*row) for row in one["edges"]]
        best = _shown(nodes, PRUNED_NODES)
        found.append(
            {
                "number": one["number"],
                "loss": _short(one["loss"]),
                "facts": lines({name: _short(value) for name, value in one["parameters"].items()}),
                "size": {"nodes": len(nodes), "edges": len(edges)},
                "nodes": _rows(best),
                "edges": _strongest(nodes, edges, best, PRUNED_EDGES),
            }
        )
    return found


def _traced(traces: Mapping[str, Any]) -> dict[str, object]:
    """Prompts, answers, by run and node's name the values at every token, and heads with whole percents."""
    runs = {
        run: {name: [[_short(x) for x in row] for row in rows] for name, rows in traces[run].items()}
        for run in ("circuit", "model")
    }
    heads = [
        {name: _percents(part) if name in ("circuit", "model") else part for name, part in head.items()}
        for head in traces["heads"]
    ]
    return {"prompts": traces["prompts"], "answers": traces["answers"], **runs, "heads": heads}


def _percents(patterns: Sequence[Sequence[Sequence[float]]]) -> list[list[list[int]]]:
    return [[[round(100 * weight) for weight in row] for row in pattern] for pattern in patterns]


def _meant(meanings: Mapping[str, Any]) -> dict[str, object]:
    """By node name: [predicate, AUC] or None, lists of [text, value], contexts [before, token, value]."""
    return {
        one["node"]: {
            "said": None if one["said"] is None else [one["said"]["predicate"], _short(one["said"]["auc"])],
            "excited": [[text, _short(value)] for text, value in one["excited_by"]],
            "moves": [[text, _short(value)] for text, value in one["moves"]],
            "answers": [[text, _short(value)] for text, value in one["answers"].items()],
            "contexts": [[at["before"], at["token"], _short(at["value"])] for at in one["contexts"]],
        }
        for one in meanings["nodes"]
    }


def _measured(card: Mapping[str, Any]) -> dict[str, object]:
    """A scorecard's verdict, and its figures as [name, ablation, value, low, high, unit]."""
    figures = [
        [one["name"], one["ablation"], *(_short(one[end]) for end in ("value", "low", "high")), one["unit"]]
        for one in card["figures"]
    ]
    return {"verdict": list(card["verdict"]), "pairs": card["pairs"], "figures": figures}


def _rows(nodes: Sequence[Node]) -> list[list]:
    numbers = {site: number for number, site in enumerate(sites.NODE_SITES)}
    return [[n.layer, numbers[n.site], n.index, _short(n.mean), _short(n.score)] for n in nodes]


def _strongest(nodes: Sequence[Node], edges: Sequence[Edge], shown: Sequence[Node], limit: int) -> list[list]:
    """[source row, target row, weight] of the edges between the nodes that are shown."""
    row = {node.name: i for i, node in enumerate(shown)}
    ends = [row.get(node.name) for node in nodes]
    kept = [e for e in edges if ends[e.source] is not None and ends[e.target] is not None]
    kept.sort(key=lambda edge: -abs(edge.weight))
    return [[ends[e.source], ends[e.target], _short(e.weight)] for e in kept[:limit]]


def _compact(found: Mapping[str, Any], texts: dict[str, int]) -> list:
    shared = [texts.setdefault(found[part], len(texts)) for part in ("before", "token", "after")]
    return [*shared, _short(found["value"])]


def _short(value: SupportsFloat | None) -> float | int | None:
    return number(value, DIGITS)
