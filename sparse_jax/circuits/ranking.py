"""What opens and closes as one, numbered, and orders of it as ranks in the shapes of the gates."""

import dataclasses

import numpy as np

from sparse_jax.trees import Arrays


@dataclasses.dataclass(frozen=True)
class Units:
    """Everything that may be closed: a node, an edge, or the same channel of q and k where they are tied.

    numbers: 0 to count - 1 in the shapes of the gates, -1 at what stays as it is.
    """

    numbers: dict[str, np.ndarray]
    count: int

    def ranks(self, order_U: np.ndarray) -> dict[str, np.ndarray]:
        """The place of every unit in `order_U`, in the shapes of the gates; -1 at what is no unit."""
        place = np.full(self.count + 1, -1, np.int32)
        place[order_U] = np.arange(len(order_U))
        # number -1 finds the last entry, which is no unit's
        return {key: place[number] for key, number in self.numbers.items()}

    def totals(self, values: Arrays) -> np.ndarray:
        """The values of each unit's gates, added up: [U]. Keys that `values` lacks count as 0."""
        found = np.zeros(self.count)
        for key, value in values.items():
            number = self.numbers.get(key)
            if number is not None:
                found[number[number >= 0]] += np.asarray(value)[number >= 0]
        return found

    def blocks(self, order_U: np.ndarray, size: int) -> "Units":
        """Larger units, each of `size` that follow one another in `order_U`."""
        ranks = self.ranks(order_U)
        # -1 // size is -1 too
        return Units({key: rank // size for key, rank in ranks.items()}, -(-self.count // size))


def number_units(eligible: Arrays, tied: bool) -> Units:
    """Numbers what is nonzero in `eligible`, by key, layer and index; `tied`: "k" as "q"."""
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
