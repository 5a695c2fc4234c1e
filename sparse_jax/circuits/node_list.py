"""A released circuit as two text files: `NAME_nodes.txt`, its nodes, and `NAME_edges.csv`, its edges.

The first is words such as `5.attn.v:57,73` (layer, site, numbers of nodes) or `final_resid:83`, the second a
table `source,target,value` whose rows name two nodes, such as `5.attn.act_in:640,5.attn.v:57,0.48`. Sites are
named as in a `viz_data.pt`.
"""

import csv
import math
import os
import re
from pathlib import Path

from sparse_jax.circuits.graph import Circuit, Edge, Node
from sparse_jax.circuits.viz_data import SITES
from sparse_jax.files import user_path
from sparse_jax.inputs import InputError, nearest
from sparse_jax.model import sites
from sparse_jax.models.model import Model

HEADER = ["source", "target", "value"]
ENDS = ("_nodes.txt", "_edges.csv")
_WORD = re.compile(r"(?:(\d+)\.)?([a-z_.]+):(\d+(?:,\d+)*)")
# How both files begin.
_FIRST = re.compile(rf"\s*((\d+\.)?[a-z_.]+:\d|{','.join(HEADER)}\s)")
_ORDER = {site: number for number, site in enumerate(sites.NODE_SITES)}


def is_node_list(path: str | os.PathLike) -> bool:
    """Whether a file begins as one of the two does."""
    try:
        with user_path(path).open(encoding="utf-8") as file:
            return _FIRST.match(file.read(200)) is not None
    except (OSError, UnicodeDecodeError):
        return False


def read_node_list(path: str | os.PathLike, model: Model | None = None) -> Circuit:
    """The circuit of both files, of which `path` is either.

    An edge's weight is its value in the file: what the released viewer draws, an effect and not the weight of
    the model. The files do not say means and scores of nodes (0 here), nor losses. model: the one that it was
    found in; without it, the last layer is taken to be the last that has a node.

    Raises InputError, naming file and line, for what is missing, ill-formed or there twice, for an edge
    between nodes that are not in the list or that no weight connects, and for a node that is not in `model`.
    """
    nodes_path, edges_path = _both(user_path(path))
    places = _nodes(nodes_path, None if model is None else model.config.n_layers)
    nodes = tuple(sorted(places, key=lambda node: (node.layer, _ORDER[node.site], node.index)))
    edges = _edges(edges_path, {node: number for number, node in enumerate(nodes)}, places)
    gated = tuple(site for site in sites.NODE_SITES if site in (*SITES.values(), sites.FINAL_SITE))
    counts = {"nodes": len(nodes), "edges": len(edges)}
    about = {
        "task": nodes_path.name.removesuffix(ENDS[0]),
        "origin": f"released list of nodes and edges, {nodes_path.name} and {edges_path.name}",
        "kind": "sparse",
        "weights of edges": "effects, as the released viewer draws them",
    }
    if model is not None:
        about |= {"model": model.origin, "weights": model.fingerprint}
    circuit = Circuit(nodes, edges, gated, counts, {}, {}, about)
    if model is not None:
        circuit.gates(model.config)  # refuses nodes that are not in the model
    return circuit


def _both(path: Path) -> tuple[Path, Path]:
    for end in ENDS:
        if path.name.endswith(end):
            stem = path.name.removesuffix(end)
            pair = path.with_name(stem + ENDS[0]), path.with_name(stem + ENDS[1])
            for one in pair:
                if not one.is_file():
                    raise InputError(f"{one.name} not found in {one.parent}; valid: it, beside {path.name}")
            return pair
    raise InputError(f"{path}: a released list of nodes or edges; valid: NAME{ENDS[0]} beside NAME{ENDS[1]}")


def _text(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read ({error})") from None


def _nodes(path: Path, n_layers: int | None) -> dict[Node, str]:
    """Every node with its name in the files."""
    found = []
    for line, text in enumerate(_text(path), start=1):
        for word in text.split():
            match = _WORD.fullmatch(word)
            if match is None:
                valid = f"5.attn.v:57,73 or {sites.FINAL_SITE}:83"
                raise InputError(f"{path}: line {line}: {word[:80]!r} is not valid; valid: as {valid}")
            layer, site, numbers = match.groups()
            if (layer is None) != (site == sites.FINAL_SITE) or site not in (*SITES, sites.FINAL_SITE):
                known = nearest(site, [*(f"LAYER.{name}" for name in SITES), sites.FINAL_SITE])
                raise InputError(f"{path}: line {line}: the site of {word[:80]!r} is unknown; {known}")
            place = site if layer is None else f"{int(layer)}.{site}"
            found += [(layer, site, int(number), f"{place}:{int(number)}") for number in numbers.split(",")]
    top = 1 + max((int(layer) for layer, *_ in found if layer is not None), default=-1)
    nodes: dict[Node, str] = {}
    for layer, site, index, name in found:
        if layer is None:
            node = Node(top if n_layers is None else n_layers, site, index)
        else:
            node = Node(int(layer), SITES[site], index)
        if node in nodes:
            raise InputError(f"{path}: the node {name} appears twice; valid: once")
        nodes[node] = name
    return nodes


def _edges(path: Path, numbers: dict[Node, int], names: dict[Node, str]) -> tuple[Edge, ...]:
    nodes = {name: node for node, name in names.items()}
    connected = {(source, target) for source, target, _, _ in sites.EDGE_MATRICES}
    rows = list(csv.reader(_text(path)))
    if not rows or rows[0] != HEADER:
        raise InputError(f"{path}: line 1 is not valid; valid: {','.join(HEADER)}")
    found: dict[tuple[int, int], Edge] = {}
    for line, row in enumerate(rows[1:], start=2):
        where = f"{path}: line {line}"
        if len(row) != len(HEADER):
            raise InputError(f"{where}: {len(row)} fields; valid: {','.join(HEADER)}")
        for name in row[:2]:
            if name not in nodes:
                raise InputError(
                    f"{where}: {name[:80]!r} is not in the list of nodes; valid: one of its nodes"
                )
        source, target = nodes[row[0]], nodes[row[1]]
        if source.layer != target.layer or (source.site, target.site) not in connected:
            raise InputError(
                f"{where}: no weight leads from {row[0]} to {row[1]}; valid: nodes of one matrix"
            )
        ends = numbers[source], numbers[target]
        if ends in found:
            raise InputError(f"{where}: the edge from {row[0]} to {row[1]} appears twice; valid: once")
        found[ends] = Edge(*ends, _value(row[2], where))
    return tuple(found.values())


def _value(text: str, where: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise InputError(f"{where}: the value {text[:80]!r} is not valid; valid: a finite number")
    return value
