"""What the nodes of circuits mean: tokens, logits, contexts, the best short predicate; and nodes as bits.

python -m experiments.explain --model=experiments/results/small/sparse --circuit=FILE,FILE --output=DIR

--output gets NAME.json with what every node does, and bits.jsonl with a line per circuit: its loss, and its
loss with two levels for every node. The model's training text is needed, and prepared if it is not there.
About a minute a circuit on one CPU core; --report takes as long again.
"""

from absl import flags

from experiments import command
from experiments.flag_types import path_flag, paths_flag
from sparse_jax.faithfulness.contributions import contributions
from sparse_jax.files import json_lines, require_writable, user_path, write_whole
from sparse_jax.inputs import require
from sparse_jax.interactive import load_circuit
from sparse_jax.meaning.bits import binarize
from sparse_jax.meaning.explain import explain
from sparse_jax.meaning.traces import trace
from sparse_jax.models.formats import load_model
from sparse_jax.models.means import text_windows
from sparse_jax.tasks.find import FORMS, find_task
from sparse_jax.viewer.circuit_page import payload_of, report

MODEL = path_flag("model", None, "the model that the circuits are of", required=True)
CIRCUITS = paths_flag("circuit", "the JSON file of a circuit, or several, separated by commas")
TASKS = flags.DEFINE_list("tasks", [], f"a task for each circuit, {FORMS} (default: as the files say)")
STEPS = flags.DEFINE_integer("steps", 300, "training steps of the levels, for each of three starts", 1)
OUTPUT = path_flag("output", None, "a folder for what is found", required=True)
REPORT = path_flag(
    "report", None, "a page that shows it and each circuit's code, values, attention and losses"
)


def main() -> None:
    """Checks everything, then explains one circuit after the other; writes after each."""
    require(bool(CIRCUITS.value), "--circuit", CIRCUITS.value, "one or more files")
    given = len(TASKS.value)
    require(given in (0, len(CIRCUITS.value)), "--tasks", TASKS.value, "one for each circuit, or none")
    model, output = load_model(MODEL.value), user_path(OUTPUT.value)
    circuits = [load_circuit(path, model) for path in CIRCUITS.value]
    tasks = [find_task(name) for name in TASKS.value or [str(c.provenance.get("task")) for c in circuits]]
    names = [user_path(path).stem for path in CIRCUITS.value]
    require(len(set(names)) == len(names), "--circuit", names, "files with different names")
    require_writable(output / "bits.jsonl")
    if REPORT.value:
        payload_of(circuits)  # refuses now what cannot be one page
        require_writable(user_path(REPORT.value))
    text, rows, found = text_windows(model), [], []
    for name, circuit, task in zip(names, circuits, tasks):
        meanings = explain(model, circuit, task, text=text)
        found.append(meanings)
        print(f"{name}\n{meanings}")
        meanings.save(output / f"{name}.json")
        print(bits := binarize(model, circuit, task, steps=STEPS.value))
        sizes = {"nodes": len(circuit.nodes), "told": meanings.told, "edges": len(circuit.edges)}
        losses = {"loss": bits.circuit, "bits": bits.bits, "start": bits.start}
        rows.append({"circuit": name, **sizes, **losses})
        write_whole(output / "bits.jsonl", json_lines(rows))
    if REPORT.value:
        pairs = list(zip(circuits, tasks))
        code = [circuit.code(model, task) for circuit, task in pairs]
        shown = {
            "traces": [trace(model, circuit, task, pairs=3) for circuit, task in pairs],
            "contributions": [contributions(model, circuit, task) for circuit, task in pairs],
        }
        report(circuits, user_path(REPORT.value), meanings=found, code=code, **shown)


if __name__ == "__main__":
    command.run(main)
