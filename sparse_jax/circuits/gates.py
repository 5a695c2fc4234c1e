"""Operations on gates (0/1 values of nodes and edges): tying, counting, closing.

All gates of a model form one flat dict: those of nodes by site ("mlp_in": [L, N], "embed": [N]), those of
edges by source and target ("mlp_in->mlp_neuron": [L, Din, Dout]).
"""

from collections.abc import Mapping
from typing import TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from sparse_jax.model import sites
from sparse_jax.trees import Array

Gates = Mapping[str, Array]
# the same kind of array in and out
A = TypeVar("A", bound=Array)


def tie(values: Mapping[str, A], tied_qk: bool = True) -> dict[str, A]:
    """The values by gate; if q and k are tied and q is present, k gets the values of q."""
    return {**values, "k": values["q"]} if tied_qk and "q" in values else dict(values)


def by_kind(gates: Mapping[str, A]) -> tuple[dict[str, A], dict[str, A]]:
    """The gates of nodes and those of edges."""
    nodes = {name: gate for name, gate in gates.items() if not sites.is_edge(name)}
    return nodes, {name: gate for name, gate in gates.items() if sites.is_edge(name)}


def count(gates: Gates) -> jax.Array | int:
    """How many gates are open."""
    return sum(jnp.sum(gate) for gate in gates.values())


def flatten(values: Gates) -> jax.Array:
    """All gates' values as one vector, names in sorted order (the order of `unflatten`)."""
    return jnp.concatenate([values[name].reshape(-1) for name in sorted(values)])


def unflatten(vector: jax.Array, like: Gates) -> dict[str, jax.Array]:
    """The inverse of `flatten`, in the shapes of `like`."""
    pieces, start = {}, 0
    for name in sorted(like):
        size = like[name].size
        pieces[name] = vector[start : start + size].reshape(like[name].shape)
        start += size
    return pieces


def close(gates: Gates, chosen: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """`gates` with 0 where `chosen` is true; edges at closed nodes are opened (`only_between_open`)."""
    return only_between_open(
        {
            key: np.where(chosen[key], np.float32(0), gate) if key in chosen else np.asarray(gate, np.float32)
            for key, gate in gates.items()
        }
    )


def partly_open(gates: Gates, share: Gates) -> dict[str, Array]:
    """The gates, one per sequence, where closed nodes keep a share of their own value.

    share: by site, [L, B, 1, N] ([B, 1, N] outside the layers); the gates of other sites stay as they are.
    """
    return {site: _shared(gate, share[site]) if site in share else gate for site, gate in gates.items()}


def _shared(gate: Array, share: Array) -> Array:
    gate = gate[..., None, None, :]
    return gate + (1 - gate) * share


def only_between_open(gates):
    """`gates` (NumPy or JAX arrays) with edges closed only where both ends are open; all others are opened.

    The value of a closed node is hidden, but it competes in AbsTopK, so the node reads all its inputs, as in
    a circuit of nodes. The closed gates then follow from the remaining nodes and edges. Edges of sites
    without gates keep their values.
    """
    found = dict(gates)
    for source, target, _, _ in sites.EDGE_MATRICES:
        key = sites.edge_key(source, target)
        if {key, source, target} <= gates.keys():
            between = gates[source][:, :, None] * gates[target][:, None, :]
            found[key] = 1 - (1 - gates[key]) * between
    return found
