"""Units: gates that open and close together, numbered, and their ranks in the shapes of the gates."""

import dataclasses

import numpy as np

from sparse_jax.trees import Arrays


@dataclasses.dataclass(frozen=True)
class Units:
    """Everything that may be closed: a node, an edge, or the same channel of q and k if they are tied.

    numbers: 0 to count - 1 in the shapes of the gates, -1 for gates that are not part of a unit.
    """

    numbers: dict[str, np.ndarray]
    count: int

    def ranks(self, order_U: np.ndarray) -> dict[str, np.ndarray]:
        """The rank of every unit by `order_U`, in the shapes of the gates; -1 outside of units."""
        place = np.full(self.count + 1, -1, np.int32)
        place[order_U] = np.arange(len(order_U))
        # index -1 takes the last entry, which belongs to no unit
        return {key: place[number] for key, number in self.numbers.items()}

    def totals(self, values: Arrays) -> np.ndarray:
        """The values of each unit's gates, added up: [U]. Keys missing from `values` count as 0."""
        found = np.zeros(self.count)
        for key, value in values.items():
            number = self.numbers.get(key)
            if number is not None:
                found[number[number >= 0]] += np.asarray(value)[number >= 0]
        return found

    def blocks(self, order_U: np.ndarray, size: int) -> "Units":
        """Larger units, each made of `size` consecutive ones in `order_U`."""
        ranks = self.ranks(order_U)
        # -1 // size is -1 too
        return Units({key: rank // size for key, rank in ranks.items()}, -(-self.count // size))


def number_units(eligible: Arrays, tied: bool) -> Units:
    """Numbers the nonzero entries of `eligible`, by key, layer and index; if `tied`, "k" as "q"."""
    numbers, count = {}, 0
    for key in sorted(eligible):
        if tied and key == "k":
            continue
        chosen = np.asarray(eligible[key]) > 0
        found = int(chosen.sum())
        numbers[key] = np.full(chosen.shape, -1, np.int32)
        numbers[key][chosen] = np.arange(count, count + found)
        count += found
    if tied and "q" in numbers:
        numbers["k"] = numbers["q"]
    return Units(numbers, count)
