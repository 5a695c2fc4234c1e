"""Packs each pair into one sequence, so that the common beginning is computed only once; this is exact."""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from sparse_jax.model.positions import Branches, Positions, in_branches, in_order
from sparse_jax.tasks.encode import EncodedPairs

MULTIPLE = 8  # lengths are rounded up, so that few different shapes are ever compiled
# Packing pays off, despite longer rows of attention, below this share of the unpacked tokens.
WORTH = 0.8


class PackedPairs(NamedTuple):
    """P packed pairs; attention keeps the two members apart (`Branches`), and nothing else mixes positions.

    tokens: int32 [P, S]: common beginning, rest of the prompt, rest of the counterfactual, padding.
    shared, middle: int32 [P], where the first and the second rest begin. last: int32 [P, 2], the index of
    each member's last token. candidates: int32 [P, 2, 2] as in `EncodedPairs`.
    """

    tokens: np.ndarray
    shared: np.ndarray
    middle: np.ndarray
    last: np.ndarray
    candidates: np.ndarray

    @property
    def branches(self) -> Branches:
        """Where the members separate, for the forward function."""
        return Branches(jnp.asarray(self.shared), jnp.asarray(self.middle))


Pairs = EncodedPairs | PackedPairs


def positions_of(pairs: Pairs) -> Positions:
    """Where the tokens of the sequences stand that are run for these pairs, and what they see."""
    length = pairs.tokens.shape[-1]
    return in_branches(length, pairs.branches) if isinstance(pairs, PackedPairs) else in_order(length)


def pack_pairs(pairs: EncodedPairs) -> PackedPairs:
    """Packs the pairs; S is the longest packed length, rounded up to a multiple of 8."""
    tokens, lengths = np.asarray(pairs.tokens), np.asarray(pairs.last) + 1
    first, second = lengths.T
    differ = tokens[:, 0] != tokens[:, 1]
    parting = np.where(differ.any(axis=1), differ.argmax(axis=1), tokens.shape[-1])
    shared = np.minimum(parting, lengths.min(axis=1)).astype(np.int32)
    needed = first + second - shared
    place = np.arange(-(-needed.max() // MULTIPLE) * MULTIPLE)
    # for each token of the counterfactual and for padding, its index in the counterfactual's own text
    of_second = np.minimum(place - (first - shared)[:, None], tokens.shape[-1] - 1)
    rows = np.arange(len(tokens))[:, None]
    of_first = tokens[rows, 0, np.minimum(place, tokens.shape[-1] - 1)]
    packed = np.where(place < first[:, None], of_first, tokens[rows, 1, np.maximum(of_second, 0)])
    packed = np.where(place < needed[:, None], packed, 0).astype(np.int32)
    last = np.stack([first - 1, np.where(second > shared, needed, second) - 1], axis=1)
    candidates = np.asarray(pairs.candidates, np.int32)
    return PackedPairs(packed, shared, first.astype(np.int32), last.astype(np.int32), candidates)


def shortest(pairs: EncodedPairs, context: int, packed: bool = True) -> Pairs:
    """The pairs with as few tokens as possible: padding cut, and packed unless that saves little.

    No member gets longer than `context`. packed: False never packs.
    """
    longest = min(-(-int(pairs.last.max() + 1) // MULTIPLE) * MULTIPLE, context)
    tokens = pairs.tokens[..., :longest]
    apart = pairs._replace(tokens=np.pad(tokens, ((0, 0), (0, 0), (0, longest - tokens.shape[-1]))))
    together = pack_pairs(apart) if packed else apart
    return together if together.tokens.size <= WORTH * apart.tokens.size else apart
