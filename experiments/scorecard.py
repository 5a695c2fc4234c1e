"""Is a circuit what its model uses? The figures and a verdict, for each of several circuits.

python -m experiments.scorecard --model=runs/quickstart/sparse --circuit=runs/circuits/for_while.json

A circuit's task is the one that its file names; --tasks names others, one a circuit. --output gets a JSON
file for each, and --report a page that shows them beside the circuits.
"""

from functools import partial

from absl import flags

from experiments import command
from experiments.flag_types import path_flag, paths_flag
from experiments.studies.given import given_circuits, names_of_results
from sparse_jax.faithfulness import again
from sparse_jax.faithfulness.measure import check_measurable, measure_circuit
from sparse_jax.files import require_writable, user_path
from sparse_jax.tasks.find import FORMS
from sparse_jax.viewer.circuit_page import payload_of, report

MODEL = path_flag("model", None, "the model that the circuits are of", required=True)
CIRCUITS = paths_flag("circuit", "the JSON file of a circuit, or several, separated by commas")
TASKS = flags.DEFINE_list("tasks", [], f"a task for each circuit, {FORMS} (default: as the files say)")
PAIRS = flags.DEFINE_integer("pairs", 128, "pairs of the test split and of each shifted split", 2)
AGAIN = flags.DEFINE_bool(
    "all",
    False,
    "also prune again: from other seeds, for a control, without the circuit's nodes; takes several prunings",
)
ROUNDS = flags.DEFINE_integer("rounds", again.ROUNDS, "with --all, the most backups that are looked for", 1)
REPORT = path_flag("report", None, "an HTML page of the circuits with their scorecards")
OUTPUT = path_flag("output", None, "a folder for <name of the circuit's file>.json each")


def main() -> None:
    """Checks everything, then measures and prints one circuit after the other."""
    names = names_of_results(CIRCUITS.value) if OUTPUT.value else CIRCUITS.value
    check = partial(check_measurable, again=AGAIN.value)
    model, circuits, tasks = given_circuits(MODEL.value, CIRCUITS.value, TASKS.value, check)
    if OUTPUT.value:
        require_writable(user_path(OUTPUT.value) / f"{names[0]}.json")
    if REPORT.value:
        payload_of(circuits)  # refuses now what cannot be one page
        require_writable(user_path(REPORT.value))
    cards = []
    for name, circuit, task in zip(names, circuits, tasks):
        cards.append(
            measure_circuit(model, circuit, task, PAIRS.value, again=AGAIN.value, rounds=ROUNDS.value)
        )
        print(cards[-1])
        if OUTPUT.value:
            cards[-1].save(user_path(OUTPUT.value) / f"{name}.json")
    if REPORT.value:
        report(circuits, user_path(REPORT.value), cards)


if __name__ == "__main__":
    command.run(main)
