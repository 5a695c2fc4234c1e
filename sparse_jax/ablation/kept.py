"""What a judge keeps between calls, since it is the same for many gates: it can cost more than a variant."""

import dataclasses
from collections.abc import Callable, Hashable, Mapping
from typing import Any

import jax
import numpy as np

from sparse_jax.circuits.narrowing import Widths

# What one judge keeps of its batches.
BYTES = 1 << 30


@dataclasses.dataclass
class Kept:
    """Values by key, their bytes, and the nodes that narrow models among them have.

    alive: 0/1 by site, the nodes; widths: how many there is room for, None for the full width.
    """

    widths: Widths | None = None
    alive: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)
    values: dict[tuple[Hashable, ...], Any] = dataclasses.field(default_factory=dict)
    used: int = 0

    def get(self, key: tuple[Hashable, ...], compute: Callable[[], Any], of_batch: bool = True) -> Any:
        """The value of `key`. What is `of_batch` is one of many, and kept only while there is room."""
        if key in self.values:
            return self.values[key]
        found = compute()
        size = _bytes(found)
        if not of_batch or self.used + size <= BYTES:
            self.values[key] = found
            self.used += size
        return found

    def make_room(self, widths: Widths | None, alive: Mapping[str, np.ndarray]) -> None:
        """Drops narrow models of other widths, and those that lack a node which is `alive`."""
        same = widths == self.widths and alive.keys() <= self.alive.keys()
        if same and all((self.alive[site] >= alive[site]).all() for site in alive):
            return
        self.widths, self.alive = widths, alive
        self.values = {key: value for key, value in self.values.items() if key[0] != "narrow"}
        self.used = sum(map(_bytes, self.values.values()))


def _bytes(value: Any) -> int:
    return sum(leaf.nbytes for leaf in jax.tree.leaves(value))
