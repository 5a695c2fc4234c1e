"""What circuits of one model share: nodes and edges, beside what chance would give, and residual channels.

An item is a node or an edge of a circuit. Items fall into groups (a layer's site, a matrix), and chance draws
as many items of every group as a circuit has, from all that the model has there. Channel i of q and of k
counts once where they share a gate, since neither is ever there without the other.

>>> one, other = {("a", 0), ("a", 1)}, {("a", 1), ("b", 0)}
>>> jaccard(one, other)
0.3333333333333333
"""

import dataclasses
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats

from sparse_jax.circuits.graph import Circuit, Node
from sparse_jax.inputs import require
from sparse_jax.model import sites
from sparse_jax.model.forward import Params

# (group, its index in the group); a group is (layer, site) or (layer, edges)
Group = tuple[int, str]
Item = tuple[Group, tuple[int, ...]]
Items = frozenset[Item]


def node_items(circuit: Circuit) -> Items:
    """The nodes of a circuit, without keys that share a query's gate."""
    tied = circuit.provenance.get("pruning", {}).get("tied_qk", False)
    nodes = (node for node in circuit.nodes if not (tied and node.site == "k"))
    return frozenset(((node.layer, node.site), (node.index,)) for node in nodes)


def edge_items(circuit: Circuit) -> Items:
    """The edges of a circuit."""
    return frozenset(_edge_item(circuit, edge.source, edge.target) for edge in circuit.edges)


def _edge_item(circuit: Circuit, source: int, target: int) -> Item:
    first, second = circuit.nodes[source], circuit.nodes[target]
    return (first.layer, sites.edge_key(first.site, second.site)), (first.index, second.index)


def sizes_of_model(params: Params) -> dict[Group, int]:
    """How many items a model has in every group: channels of a site, nonzero weights of a matrix."""
    depth, width = len(params["layers"]["attn"]["q"]["kernel"]), params["embed"]["kernel"].shape[1]
    sizes: dict[Group, int] = {(0, sites.EMBED_SITE): width, (depth, sites.FINAL_SITE): width}
    for source, target, sublayer, matrix in sites.EDGE_MATRICES:
        kernel_LxIxO = np.asarray(params["layers"][sublayer][matrix]["kernel"])
        for layer, kernel in enumerate(kernel_LxIxO):
            sizes |= {(layer, source): len(kernel), (layer, target): kernel.shape[1]}
            sizes[layer, sites.edge_key(source, target)] = int(np.count_nonzero(kernel))
    return sizes


def jaccard(one: frozenset | set, other: frozenset | set) -> float | None:
    """The share of the items of either that both have; None for two empty sets."""
    either = len(one | other)
    return len(one & other) / either if either else None


class Chance(NamedTuple):
    """The expected number of common items of two random circuits, and their expected Jaccard index."""

    common: float
    jaccard: float


def chance(one: Items, other: Items, sizes: Mapping[Group, int]) -> Chance:
    """What two random circuits with as many items in every group share, exactly.

    The common items of a group have a hypergeometric distribution, and those of all groups its convolution.
    Raises InputError for two empty circuits, and if a circuit has more items of a group than the model.
    """
    counts = _counts(one, sizes), _counts(other, sizes)
    total = len(one) + len(other)
    require(total > 0, "circuits", "without items", "at least one item")
    common = np.ones(1)  # the distribution of 0, 1, ... common items
    for group in sorted(counts[0].keys() & counts[1].keys()):
        few, many = sorted(count[group] for count in counts)
        here = stats.hypergeom(sizes[group], many, few).pmf(np.arange(few + 1))
        common = np.convolve(common, here)
    numbers = np.arange(len(common))
    return Chance(float(common @ numbers), float(common @ (numbers / np.maximum(total - numbers, 1))))


def uses(circuits: Sequence[Items]) -> Counter[Item]:
    """How many of the circuits each item is in; items of none are left out."""
    return Counter(item for items in circuits for item in items)


def uses_by_chance(circuits: Sequence[Items], sizes: Mapping[Group, int]) -> np.ndarray:
    """The expected number of items [C + 1] that are in 0, 1, ... C random circuits of these sizes."""
    expected = np.zeros(len(circuits) + 1)
    counts = [_counts(items, sizes) for items in circuits]
    for group in sorted(set().union(*counts)):
        spread = np.ones(1)  # of the number of circuits that have a given item
        for count in counts:
            share = count[group] / sizes[group]
            spread = np.convolve(spread, [1 - share, share])
        expected += sizes[group] * spread
    return expected


def _counts(items: Items, sizes: Mapping[Group, int]) -> Counter[Group]:
    counts = Counter(group for group, _ in items)
    for group, count in counts.items():
        valid = f"at most {sizes.get(group, 0)}, as the model"
        require(count <= sizes.get(group, 0), f"items of {group}", count, valid)
    return counts


@dataclasses.dataclass(frozen=True)
class Channel:
    """What circuits do with one channel of the residual stream.

    writers, readers: how many different nodes of any circuit write and read it. sources, targets: how many
    different heads' channels and neurons they write it from, and hand it on to. writing, reading: how many
    circuits write and read it; tasks: how many do either.
    """

    channel: int
    writers: int
    readers: int
    sources: int
    targets: int
    writing: int
    reading: int
    tasks: int


def residual_channels(circuits: Sequence[Circuit]) -> list[Channel]:
    """Every residual channel that a circuit reads or writes, those of most circuits first."""
    found: dict[int, dict[str, set]] = {}
    for number, circuit in enumerate(circuits):
        for node in circuit.nodes:
            if node.site in sites.WRITER_SITES:
                _note(found, node, writers=_name(node), writing=number)
            if node.site in sites.READER_SITES:
                _note(found, node, readers=_name(node), reading=number)
        for edge in circuit.edges:
            source, target = circuit.nodes[edge.source], circuit.nodes[edge.target]
            if target.site in sites.WRITER_SITES:
                _note(found, target, sources=_name(source))
            if source.site in sites.READER_SITES:
                _note(found, source, targets=_name(target))
    channels = []
    for channel, noted in found.items():
        counts = {name: len(each) for name, each in noted.items()}
        tasks = len(noted.get("writing", set()) | noted.get("reading", set()))
        empty = {field.name: 0 for field in dataclasses.fields(Channel)}
        channels.append(Channel(**{**empty, **counts, "channel": channel, "tasks": tasks}))
    return sorted(channels, key=lambda one: (-one.tasks, -one.writers - one.readers, one.channel))


def _note(found: dict[int, dict[str, set]], node: Node, **noted: object) -> None:
    for name, value in noted.items():
        found.setdefault(node.index, {}).setdefault(name, set()).add(value)


def _name(node: Node) -> tuple[int, str, int]:
    return node.layer, node.site, node.index
