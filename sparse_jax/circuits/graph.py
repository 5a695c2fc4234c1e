"""A circuit as data: nodes, edges, counts, losses and provenance, to JSON and back."""

import dataclasses
import hashlib
import html
import json
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from numbers import Real
from typing import TYPE_CHECKING, Any

import numpy as np

from sparse_jax.circuits.picture import circuit_svg
from sparse_jax.files import user_path, write_whole
from sparse_jax.inputs import InputError, nearest, require, shown
from sparse_jax.model import sites
from sparse_jax.model.config import ModelConfig
from sparse_jax.phrases import counted

if TYPE_CHECKING:
    from sparse_jax.circuits.compact_circuit import CompactCircuit
    from sparse_jax.models.model import Model
    from sparse_jax.tasks.find import Spec

FORMAT = "sparse_jax.circuit"
# Version 1 has no gates on edges, version 2 no constants; their files can be read.
VERSIONS = (1, 2, 3)


@dataclasses.dataclass(frozen=True)
class Node:
    """One kept channel `index` of `site` in `layer` (0 at `embed`, the last layer + 1 at `final_resid`).

    mean: its mean activation over pretraining text, the value that it would be ablated to.
    score: the gate logit that it was ranked by.
    """

    layer: int
    site: str
    index: int
    mean: float = 0.0
    score: float = 0.0

    @property
    def name(self) -> str:
        """Short and readable: "0.mlp_neuron.17"."""
        return f"{self.layer}.{self.site}.{self.index}"

    @property
    def place(self) -> tuple[int, ...]:
        """Its index in an array of its site: [L, N], or [N] outside the layers."""
        return (self.index,) if self.site in sites.UNLAYERED_SITES else (self.layer, self.index)


@dataclasses.dataclass(frozen=True)
class Edge:
    """A nonzero weight from node number `source` to node number `target` (METHOD 7)."""

    source: int
    target: int
    weight: float


@dataclasses.dataclass(frozen=True, repr=False)
class Circuit:
    """What is left of a model for one task.

    sites: the gated sites; all nodes of other sites are kept and not listed.
    edges: all nonzero weights between the nodes; if `edge_gated`, only those left open, and the others carry
    the ablation value of their source. The sizes of the two kinds are never compared.
    constants: nodes that are not part of it but carry a constant, their `mean`, whatever else is ablated to.
    counts: other sizes, which are not part of the number of edges (see `edges.other_counts`).
    losses: task losses in nats by name. calibration: the fit of its logits.
    provenance: model, task, config, commit and other information about its origin.
    """

    nodes: tuple[Node, ...]
    edges: tuple[Edge, ...]
    sites: tuple[str, ...]
    counts: Mapping[str, int]
    losses: Mapping[str, float]
    calibration: Mapping[str, Any]
    provenance: Mapping[str, Any]
    edge_gated: bool = False
    constants: tuple[Node, ...] = ()
    # the directory of its file and perhaps its ablation values; not part of its content
    folder: str = dataclasses.field(default="", compare=False)

    def __post_init__(self) -> None:
        """Raises InputError naming a field whose content nobody could read."""
        for name in ("counts", "losses", "calibration", "provenance"):
            _require(isinstance(getattr(self, name), Mapping), name, getattr(self, name), "an object")
        for name, value in self.losses.items():
            _require(value is None or isinstance(value, Real), f"losses.{name}", value, "a number")
        shift = self.calibration.get("shift", {})
        _require(isinstance(shift, Mapping), "calibration.shift", shift, "an object, numbers by token id")
        for token, value in shift.items():
            by_id = str(token).isdecimal() and isinstance(value, Real)
            _require(by_id, f"calibration.shift[{token!r}]", value, "a number, by token id")
        scale = self.calibration.get("scale", 1.0)
        _require(isinstance(scale, Real), "calibration.scale", scale, "a number")
        for name in ("pruning", "config"):
            found = self.provenance.get(name, {})
            _require(isinstance(found, Mapping), f"provenance.{name}", found, "an object")
        for i, site in enumerate(self.sites):
            _require_site(site, f"sites[{i}]")
        for site in sites.LAYER_SITES if self.edge_gated else ():
            _require(site in self.sites, "sites", self.sites, f"with {site!r}, if edges are gated")

    def gates(self, config: ModelConfig) -> dict[str, np.ndarray]:
        """The 0/1 gates that leave exactly this circuit, in the form that `last_logits` takes.

        By gated site, [L, N] ([N] outside the layers); if `edge_gated` also by edge ("q->..."),
        [L, Din, Dout], closed between two nodes without an edge and open elsewhere: what other nodes read
        decides, through AbsTopK, which nodes are active. Raises InputError for nodes or edges that a model of
        this `config` does not have.
        """
        gates = _filled(config, self.sites, 0.0, [(node, 1.0) for node in self.nodes])
        return {**gates, **self._edge_gates(config, gates)} if self.edge_gated else gates

    @property
    def fingerprint(self) -> str:
        """A hash of its content: 16 hexadecimal digits."""
        return hashlib.blake2b(self.to_json().encode(), digest_size=8).hexdigest()

    @property
    def model(self) -> str | None:
        """The fingerprint of the model that it was found in; None if its file does not say."""
        return self.provenance.get("weights")

    @property
    def task(self) -> str | None:
        """The name of the task that it was found for; None if its file does not say."""
        return self.provenance.get("task")

    @property
    def calibrated(self) -> bool:
        """Whether its size was chosen by the loss after calibration (`experiments/calibrated.py`)."""
        return bool(self.provenance.get("calibrated", False))

    def held(self, config: ModelConfig) -> dict[str, np.ndarray]:
        """Its constants by site, [L, N] ([N] outside the layers), NaN for all other nodes; {} without any.

        Raises InputError for one that a model of this `config` does not have.
        """
        held = {node.site for node in self.constants}
        names = tuple(site for site in sites.NODE_SITES if site in held)
        return _filled(config, names, np.nan, [(node, node.mean) for node in self.constants])

    def _edge_gates(self, config: ModelConfig, nodes: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        gates = {}
        for source, target, _, _ in sites.EDGE_MATRICES:
            between = nodes[source][:, :, None] * nodes[target][:, None, :]
            gates[sites.edge_key(source, target)] = 1 - between
        for number, edge in enumerate(self.edges):
            for end in (edge.source, edge.target):
                valid = f"the numbers of two of the {len(self.nodes)} nodes, from 0"
                _require(0 <= end < len(self.nodes), f"edges[{number}]", edge, valid)
            first, second = self.nodes[edge.source], self.nodes[edge.target]
            key = sites.edge_key(first.site, second.site)
            if key not in gates or first.layer != second.layer:
                raise InputError(f"circuit: no weight leads from {first.name} to {second.name}")
            gates[key][first.layer, first.index, second.index] = 1.0
        return gates

    def compact(self, model: "Model", outputs: Sequence[int | str] | None = None) -> "CompactCircuit":
        """The circuit as a small model of its own, with the logits of the gated model.

        Only its nodes and edges are computed, and what competes with them in AbsTopK; the rest is constant.
        outputs: the tokens whose logits are wanted, ids or texts; default: the answers of its task. Its
        `forward` is pure (jit, vmap, grad). Calibration, which has no influence on what is computed, is left
        out.

        Raises InputError for a circuit of another model, for tokens that the model does not have, and without
        `outputs` if its task is not known here.

        >>> import sparse_jax as sj
        >>> model = sj.load("experiments/results/small/sparse")
        >>> found = "experiments/results/faithfulness/circuits/sparse/mean/single_double_quote.json"
        >>> small = sj.load_circuit(found).compact(model)
        >>> small
        CompactCircuit(17 nodes, logits of 2 tokens)
        >>> small.forward(sj.token_ids(model, "print('a")).shape
        (1, 3, 2)
        """
        from sparse_jax.circuits.applied import values_of
        from sparse_jax.circuits.folding import fold
        from sparse_jax.circuits.outputs import output_tokens

        return fold(model, self, values_of(model, self), output_tokens(model, self, outputs))

    def code(self, model: "Model", task: "Spec | None" = None, tolerance: float = 0.0) -> str:
        """The circuit as Python that a person can read and NumPy can run: a function of a prompt's tokens.

        A variable for each node, what excites it and what reads it as a comment. Tables say what the
        embedding adds at tokens, thresholds stand for AbsTopK, and numbers for what norms divide by. Whatever
        the answers to the task's test prompts do not need is left out: table entries, thresholds, digits. The
        text says how many of the answers are the circuit's.

        task: default: the one that it was found for, if that is a built-in one. tolerance: the share of
        answers that may change; with 0.02 the text is often much shorter. Takes seconds for a dozen edges,
        minutes for a hundred. Raises InputError for a circuit of another model, for a task that is not known
        or not its own, and for a model with an activation or AbsTopK in its residual stream.

        >>> import sparse_jax as sj
        >>> model = sj.load("experiments/results/small/sparse")
        >>> circuit = sj.load_circuit("experiments/results/faithfulness/circuits/sparse/mean/else_elif.json")
        >>> print(circuit.code(model).splitlines()[0].strip('"'))
        else_elif in experiments/results/small/sparse (4e5eaf72e6c4e7ad): 2 nodes, 1 edge.
        """
        from sparse_jax.circuits.applied import values_of
        from sparse_jax.circuits.source_check import pairs_of_test
        from sparse_jax.circuits.source_code import code_of

        pairs = pairs_of_test(model, self, task)
        outputs = sorted(set(pairs.candidates.reshape(-1).tolist()))
        small, values = self.compact(model, outputs), values_of(model, self)
        return code_of(model, self, values, small, pairs, tolerance)

    def save(self, path: str | os.PathLike) -> None:
        """Writes the circuit as JSON to `path`, atomically; `load_circuit` reads it.

        Raises InputError naming a field that JSON cannot hold, such as one with NaN.
        """
        write_whole(path, self.to_json())

    def __repr__(self) -> str:
        losses = ", ".join(f"{name} {value:.3f}" for name, value in self._main_losses().items())
        said = f"; nats: {losses}" if losses else ""
        about = f"{self.provenance.get('task', 'unknown task')} in {self.provenance.get('model', 'a model')}"
        missed = "" if self.provenance.get("reached", True) else ", target missed"
        size = f"{counted(len(self.nodes), 'node')}, {counted(len(self.edges), 'edge')}"
        return f"Circuit({about}: {size}{missed}{said})"

    def _repr_html_(self) -> str:
        return f"<div>{html.escape(repr(self))}</div>{circuit_svg(self)}"

    def _main_losses(self) -> dict[str, float]:
        names = ["target", "unpruned", "validation", "circuit"]
        if self.calibrated:
            names.append("calibrated")  # the loss that its size was chosen by
        return {name: self.losses[name] for name in names if self.losses.get(name) is not None}

    def to_json(self) -> str:
        """One JSON object; nodes as objects, edges as [source, target, weight]."""
        fields = dataclasses.asdict(self)
        del fields["folder"]
        fields["edges"] = [[edge.source, edge.target, edge.weight] for edge in self.edges]
        fields = {"format": FORMAT, "version": VERSIONS[-1], **fields}
        parts = [f'"{name}": {_json_of(name, value)}' for name, value in fields.items()]
        return f"{{{', '.join(parts)}}}"


def _json_of(field: str, value: object) -> str:
    try:
        return json.dumps(value, allow_nan=False, default=lambda scalar: scalar.item())
    except (AttributeError, TypeError, ValueError) as error:
        raise InputError(f"circuit.{field}: {error}; valid: finite numbers and texts") from None


def _filled(
    config: ModelConfig, names: tuple[str, ...], rest: float, given: Iterable[tuple[Node, float]]
) -> dict[str, np.ndarray]:
    """Arrays of these sites with the values of the given nodes, and `rest` at all others."""
    shapes = sites.node_shapes(config, names)
    filled = {site: np.full(shape, rest, np.float32) for site, shape in shapes.items()}
    for node, value in given:
        shape = shapes.get(node.site, ())
        if len(shape) != len(node.place) or not all(0 <= i < n for i, n in zip(node.place, shape)):
            raise InputError(f"circuit: node {node.name} is not in this model; its sites are {shapes}")
        filled[node.site][node.place] = value
    return filled


def from_json(text: str) -> Circuit:
    """The circuit that `Circuit.to_json` wrote. Raises InputError for anything else."""
    try:
        fields = json.loads(text)
    except (ValueError, RecursionError) as error:  # also for a far too long number or far too deep nesting
        raise InputError(f"circuit: not JSON ({error}); valid: a file written by sparse_jax") from None
    if not isinstance(fields, dict) or fields.get("format") != FORMAT:
        raise InputError(f"circuit: the format is not {FORMAT!r}; valid: a file written by sparse_jax")
    if fields.get("version") not in VERSIONS:
        valid = ", ".join(map(str, VERSIONS))
        raise InputError(f"circuit: version {fields.get('version')!r}; valid: {valid}")
    if fields["version"] == 1:
        fields["edge_gated"] = False
    if fields["version"] < 3:
        fields["constants"] = []
    names = {field.name for field in dataclasses.fields(Circuit) if field.compare}
    absent = sorted(names - fields.keys())
    if absent:
        raise InputError(f"circuit: the field {absent[0]!r} is missing; valid: {', '.join(sorted(names))}")
    values = {name: fields[name] for name in names}
    for name in ("nodes", "edges", "sites", "constants"):
        _require(isinstance(values[name], list), name, values[name], "a list")
    _require(isinstance(values["edge_gated"], bool), "edge_gated", values["edge_gated"], "true or false")
    for name in ("nodes", "constants"):
        values[name] = tuple(_node(node, f"{name}[{i}]") for i, node in enumerate(fields[name]))
    values["sites"] = tuple(fields["sites"])
    count = len(values["nodes"])
    values["edges"] = tuple(_edge(edge, f"edges[{i}]", count) for i, edge in enumerate(fields["edges"]))
    return Circuit(**values)


def _node(node: Any, field: str) -> Node:
    _require(isinstance(node, dict), field, node, "an object")
    known = [f.name for f in dataclasses.fields(Node)]
    for name in node:
        _require(name in known, field, name, f"the fields {', '.join(known)}")
    for name in ("layer", "index"):
        value = node.get(name)
        _require(_is_count(value), f"{field}.{name}", value, "a whole number from 0")
    for name in ("mean", "score"):
        value = node.get(name, 0.0)
        _require(_is_number(value), f"{field}.{name}", value, "a finite number")
    _require_site(node.get("site"), f"{field}.site")
    return Node(**node)


def _edge(edge: Any, field: str, nodes: int) -> Edge:
    _require(isinstance(edge, list) and len(edge) == 3, field, edge, "[source, target, weight]")
    source, target, weight = edge
    for name, end in (("source", source), ("target", target)):
        valid = f"the number of one of the {nodes} nodes, from 0"
        _require(_is_count(end) and end < nodes, f"{field}.{name}", end, valid)
    _require(_is_number(weight), f"{field}.weight", weight, "a finite number")
    return Edge(source, target, weight)


def _require_site(site: object, field: str) -> None:
    if site not in sites.NODE_SITES:
        choices = nearest(str(site), sites.NODE_SITES)
        raise InputError(f"circuit.{field}: {shown(site)} is unknown; {choices}")


def _require(condition: bool, field: str, value: object, valid: str) -> None:
    require(condition, f"circuit.{field}", value, valid)


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _is_number(value: object) -> bool:
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        return False
    return abs(value) <= sys.float_info.max


def load_circuit(path: str | os.PathLike) -> Circuit:
    """Reads what `Circuit.save` wrote. Raises InputError, naming `path`, for a missing or invalid file.

    >>> import tempfile
    >>> nodes = (Node(0, "q", 3), Node(1, "mlp_neuron", 17))
    >>> circuit = Circuit(nodes, (), ("q", "mlp_neuron"), {}, {}, {}, {"task": "for_while"})
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     circuit.save(f"{folder}/circuit.json")
    ...     load_circuit(f"{folder}/circuit.json")
    Circuit(for_while in a model: 2 nodes, 0 edges)
    """
    path = user_path(path, "circuit")
    try:
        circuit = from_json(path.read_text(encoding="utf-8"))
        return dataclasses.replace(circuit, folder=str(path.parent))
    except OSError as error:
        raise InputError(f"{path}: circuit: cannot be read ({error.strerror})") from None
    except UnicodeDecodeError:
        raise InputError(f"{path}: circuit: not UTF-8; valid: a file written by sparse_jax") from None
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
