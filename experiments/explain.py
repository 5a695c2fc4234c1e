"""What the nodes of circuits mean: tokens, logits, contexts, the best short predicate; and nodes as bits.

python -m experiments.explain --model=experiments/results/small/sparse --circuit=FILE,FILE --output=DIR

--output gets NAME.json with what every node does, and bits.jsonl with a line per circuit: its loss, and its
loss with two levels for every node. The model's training text is needed, and prepared if necessary.
About a minute a circuit on one CPU core; --report takes a few more.
"""

from functools import partial

from absl import flags

from experiments import command
from experiments.flag_types import path_flag, paths_flag
from experiments.studies.given import check_explained, given_circuits, names_of_results
from sparse_jax.files import json_lines, require_writable, user_path, write_whole
from sparse_jax.gathering import findings
from sparse_jax.meaning.bits import binarize
from sparse_jax.meaning.explain import explain
from sparse_jax.models.means import text_windows
from sparse_jax.tasks.find import FORMS
from sparse_jax.viewer.circuit_page import payload_of, report

MODEL = path_flag("model", None, "the model that the circuits are of", required=True)
CIRCUITS = paths_flag("circuit", "the JSON file of a circuit, or several, separated by commas")
TASKS = flags.DEFINE_list("tasks", [], f"a task for each circuit, {FORMS} (default: as the files say)")
STEPS = flags.DEFINE_integer("steps", 300, "training steps of the levels, for each of three starts", 1)
OUTPUT = path_flag("output", None, "a folder for what is found", required=True)
REPORT = path_flag("report", None, "a page with all that can be found about the circuits (sj.findings)")


def main() -> None:
    """Checks everything, then explains one circuit after the other; writes after each."""
    names, output = names_of_results(CIRCUITS.value), user_path(OUTPUT.value)
    check = partial(check_explained, reported=bool(REPORT.value))
    model, circuits, tasks = given_circuits(MODEL.value, CIRCUITS.value, TASKS.value, check)
    require_writable(output / "bits.jsonl")
    if REPORT.value:
        payload_of(circuits)  # refuses now what cannot be one page
        require_writable(user_path(REPORT.value))
    text, rows, found = text_windows(model), [], []
    for name, circuit, task in zip(names, circuits, tasks):
        found.append(meanings := explain(model, circuit, task, text=text))
        print(f"{name}\n{meanings}")
        meanings.save(output / f"{name}.json")
        print(bits := binarize(model, circuit, task, steps=STEPS.value))
        sizes = {"nodes": len(circuit.nodes), "told": meanings.told, "edges": len(circuit.edges)}
        losses = {"loss": bits.circuit, "bits": bits.bits, "start": bits.start}
        rows.append({"circuit": name, **sizes, **losses})
        write_whole(output / "bits.jsonl", json_lines(rows))
    if REPORT.value:
        shown = [findings(model, *one, meanings=told) for *one, told in zip(circuits, tasks, found)]
        scorecards = [one.pop("scorecard") for one in shown]
        others = {part: [one[part] for one in shown] for part in shown[0]}
        report(circuits, user_path(REPORT.value), scorecards, **others)


if __name__ == "__main__":
    command.run(main)
