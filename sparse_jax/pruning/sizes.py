"""How many nodes and edges gates leave (METHOD 7), for choosing among circuits before any is written down."""

from collections.abc import Iterator, Mapping

import numpy as np

from sparse_jax.model import sites
from sparse_jax.model.forward import Params

Arrays = Mapping[str, np.ndarray]
NEVER = np.iinfo(np.int32).max


def count_nodes(gates: Arrays) -> int:
    """The open node gates."""
    return int(sum(np.count_nonzero(gate) for key, gate in gates.items() if not sites.is_edge(key)))


def count_edges(params: Params, gates: Arrays) -> int:
    """The nonzero weights between open nodes, those with a closed gate of their own left out."""
    return int(sum(np.count_nonzero(kept) for _, _, kept in kept_weights(params, gates)))


def incident_edges(params: Params, gates: Arrays) -> dict[str, np.ndarray]:
    """How many edges each node is an end of, in the shapes of the gates; an edge counts as 1 itself."""
    found = {key: np.zeros(np.shape(gate)) for key, gate in gates.items()}
    for source, target, kept in kept_weights(params, gates):
        found[source] += kept.sum(axis=2)
        found[target] += kept.sum(axis=1)
        key = sites.edge_key(source, target)
        if key in found:
            found[key] += kept
    return found


def kept_weights(params: Params, gates: Arrays) -> Iterator[tuple[str, str, np.ndarray]]:
    """(source site, target site, bool [L, Din, Dout] of its edges) for every matrix between gated sites."""
    for source, target, nonzero in _nonzero(params, gates):
        kept = nonzero & (gates[source][:, :, None] > 0) & (gates[target][:, None, :] > 0)
        key = sites.edge_key(source, target)
        yield source, target, kept & (gates[key] > 0) if key in gates else kept


def edges_by_size(params: Params, gates: Arrays, ranks: Arrays, count: int) -> np.ndarray:
    """Edges [count + 1] if only the first 0, 1, ... of `count` ranked units are open; others as `gates`."""
    opens = {}
    for key, gate in gates.items():
        rank = ranks.get(key, np.full(np.shape(gate), -1))
        opens[key] = np.where(rank >= 0, rank + 1, np.where(np.asarray(gate) > 0, 0, NEVER))
    found = np.zeros(count + 1, np.int64)
    for source, target, nonzero in _nonzero(params, gates):
        first = np.maximum(opens[source][:, :, None], opens[target][:, None, :])
        if sites.edge_key(source, target) in opens:
            first = np.maximum(first, opens[sites.edge_key(source, target)])
        first = first[nonzero]
        found += np.bincount(first[first <= count], minlength=count + 1)
    return np.cumsum(found)


def _nonzero(params: Params, gates: Arrays) -> Iterator[tuple[str, str, np.ndarray]]:
    for source, target, sublayer, matrix in sites.EDGE_MATRICES:
        if source in gates and target in gates:
            yield source, target, np.asarray(params["layers"][sublayer][matrix]["kernel"]) != 0
