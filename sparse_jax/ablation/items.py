"""What a judge judges: pairs, each under one draw of one kind of ablation, in batches."""

import operator
from collections.abc import Iterator
from typing import NamedTuple

import jax
import numpy as np

from sparse_jax.ablation.draws import Draws
from sparse_jax.tasks.packing import PackedPairs, Pairs
from sparse_jax.trees import Array

# Lengths of batches that are run only a few times are multiples of this, so that splits and tasks share a
# program: it takes longer to compile than hundreds of pairs to run.
LENGTHS = 32


class Items(NamedTuple):
    """What is judged: M pairs, each under one draw of one kind of ablation.

    pair, kind: int [M], the indices of the pair in its split and of the kind. draws: for each kind, those of
    its items in their order.
    """

    pairs: Pairs
    pair: np.ndarray
    kind: np.ndarray
    draws: tuple[Draws, ...]

    def reordered(self, order_M: np.ndarray) -> "Items":
        """The items with these numbers, of items that are sorted by their kinds."""
        kind_M = self.kind[order_M]
        starts = np.searchsorted(self.kind, np.arange(len(self.draws)))
        draws = [
            jax.tree.map(operator.itemgetter(order_M[kind_M == kind] - start), own)
            for kind, (start, own) in enumerate(zip(starts, self.draws))
        ]
        pairs = jax.tree.map(operator.itemgetter(order_M), self.pairs)
        return Items(pairs, self.pair[order_M], kind_M, tuple(draws))

    def batches(self, size: int) -> "Iterator[Batch]":
        """Batches of `size` items of one kind, in the order of their first items."""
        begun = []
        for kind in range(len(self.draws)):
            own = np.flatnonzero(self.kind == kind)
            begun += [(own[start], kind, own, start) for start in range(0, len(own), size)]
        for _, kind, own, start in sorted(begun, key=operator.itemgetter(0)):
            size_here = min(size, len(own))
            chosen = np.minimum(np.arange(start, start + size_here), len(own) - 1)
            pairs = jax.tree.map(operator.itemgetter(own[chosen]), self.pairs)
            draws = jax.tree.map(operator.itemgetter(chosen), self.draws[kind])
            yield Batch(kind, own[start : start + size_here], pairs, draws)


class Batch(NamedTuple):
    """Items of one kind that are run together, the last filled up with copies.

    places: [P], the numbers of the items, without copies.
    """

    kind: int
    places: np.ndarray
    pairs: Pairs
    draws: Draws

    @property
    def key(self) -> tuple[int, ...]:
        """What tells it from the judge's other batches."""
        return self.kind, *self.pairs.tokens.shape, int(self.places[0])

    def lengthened(self, context: int) -> "Batch":
        """Padded to a multiple of LENGTHS, which changes no logits."""
        length = -(-self.pairs.tokens.shape[-1] // LENGTHS) * LENGTHS
        if not isinstance(self.pairs, PackedPairs):
            length = min(length, context)
        donor = self.draws.donor
        donor = donor and donor._replace(tokens=_padded(donor.tokens, length))
        pairs = self.pairs._replace(tokens=_padded(self.pairs.tokens, length))
        return self._replace(pairs=pairs, draws=self.draws._replace(donor=donor))


def _padded(tokens: Array, length: int) -> np.ndarray:
    return np.pad(tokens, [(0, 0)] * (tokens.ndim - 1) + [(0, length - tokens.shape[-1])])
