"""Puts the circuits of two models side by side: losses, edges, and the ratio of edges.

python -m experiments.compare --sparse=experiments/results/wider_pair/circuits/sparse/mean \
    --dense=experiments/results/wider_pair/circuits/dense/mean

Each directory holds the circuits of one model, a JSON file for each task, as experiments.prune writes them.
Intervals are of 95 %, by drawing the tasks again. --figure=edges.png draws the edges of all tasks.
"""

from experiments import command
from experiments.flag_types import names_flag, path_flag
from experiments.studies.comparison import SIDES, compare, format_ratios, format_table, read_circuits
from experiments.studies.edges_figure import draw_edges
from experiments.studies.figure import require_figures
from experiments.studies.pair import loss_of_model, require_equal, shown
from sparse_jax.files import require_writable, user_path
from sparse_jax.inputs import require_choice

PLACES = {
    side: path_flag(side, None, f"the directory with the circuits of the {side} model", required=True)
    for side in SIDES
}
TASKS = names_flag("tasks", None, "only these tasks (default: all that there are circuits for)")
FIGURE = path_flag("figure", None, "where a picture of the edges goes, as PNG (default: none)")


def main() -> None:
    """Prints the table of all tasks and the ratios of edges below it, and draws the edges."""
    if FIGURE.value:
        require_figures()
        require_writable(user_path(FIGURE.value))
    sparse, dense = read_circuits({side: place.value for side, place in PLACES.items()})
    losses = {
        side: loss_of_model(next(iter(circuits.values()))) for side, circuits in zip(SIDES, (sparse, dense))
    }
    require_equal(losses)
    known = sorted({*sparse, *dense})
    for name in TASKS.value or ():
        require_choice("--tasks", name, known)
    comparison = compare(TASKS.value or known, sparse, dense)
    target = next(iter(sparse.values())).losses["target"]
    print(format_table(comparison))
    print(format_ratios(comparison, target))
    print(f"validation losses of the models, nats a token: {shown(losses)}")
    if FIGURE.value:
        sides = [(name, row.task, getattr(row, name)) for row in comparison.rows for name in SIDES]
        edges = {(name, "", task): one.edges if one.reached else None for name, task, one in sides if one}
        draw_edges(edges, {"": ""}, target, user_path(FIGURE.value))


if __name__ == "__main__":
    command.run(main)
