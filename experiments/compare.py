"""Puts the circuits of two models side by side: losses, edges, and the ratio of edges.

python -m experiments.compare --sparse=experiments/results/wider_pair/circuits/sparse \
    --dense=experiments/results/wider_pair/circuits/dense

Each directory holds the circuits of one model, a JSON file for each task, as experiments.prune writes them.
Intervals are of 95 %, by drawing the tasks again.
"""

from experiments import command
from experiments.flag_types import path_flag
from experiments.studies.comparison import SIDES, compare, format_ratios, format_table, read_circuits

PLACES = {
    side: path_flag(side, None, f"the directory with the circuits of the {side} model", required=True)
    for side in SIDES
}


def main() -> None:
    """Prints the table of all tasks, and the ratios of edges below it."""
    sparse, dense = read_circuits({side: place.value for side, place in PLACES.items()})
    comparison = compare(sorted({*sparse, *dense}), sparse, dense)
    print(format_table(comparison))
    print(format_ratios(comparison))


if __name__ == "__main__":
    command.run(main)
