"""Exports a circuit: as code, as a small model of its own, as a picture, or for other viewers.

python -m experiments.export --model=experiments/results/small/sparse --circuit=FILE --format=code

--format=code prints a program that a person can read and NumPy can run, or writes it to --output.
--format=compact makes the new directory --output, for `sj.load_compact`.
--format=svg writes its picture.
--format=circuit-tracer writes the JSON of an attribution graph on one prompt to --output, for the viewers of
circuit-tracer and Neuronpedia: on --prompt, or else the first prompt of the task's test split.
"""

import json

from absl import flags

from experiments import command
from experiments.flag_types import path_flag
from sparse_jax.circuits.applied import values_of
from sparse_jax.circuits.attribution_graph import attribution_graph
from sparse_jax.circuits.picture import circuit_svg
from sparse_jax.circuits.source_check import pairs_of_test
from sparse_jax.files import new_directory, require_writable, user_path, write_whole
from sparse_jax.inputs import require
from sparse_jax.interactive import load_circuit, token_ids
from sparse_jax.models.formats import load_model

MODEL = path_flag("model", None, "the model that the circuit is of", required=True)
CIRCUIT = path_flag("circuit", None, "the circuit's file", required=True)
FORMATS = ("code", "compact", "circuit-tracer", "svg")
FORMAT = flags.DEFINE_enum("format", None, FORMATS, "what is made", required=True)
OUTPUT = path_flag("output", None, "where it goes; code is printed without")
TASK = flags.DEFINE_string("task", None, "the circuit's task, if it is one of your own")
PROMPT = flags.DEFINE_string("prompt", None, "with --format=circuit-tracer: the text that the graph is of")
TOLERANCE = flags.DEFINE_float(
    "tolerance", None, "with --format=code: share of answers that may change (0); 0.02 is shorter", 0, 1
)
LEAST = flags.DEFINE_float(
    "least", None, "with --format=circuit-tracer: links below this share of what reaches a node go (0.01)"
)


def main() -> None:
    """Checks everything that can be checked at once, then exports."""
    kind, output = FORMAT.value, OUTPUT.value
    require(output is not None or kind == "code", "--output", output, f"a path, with --format={kind}")
    for name, given, users in (
        ("--prompt", PROMPT.value, ("circuit-tracer",)),
        ("--least", LEAST.value, ("circuit-tracer",)),
        ("--tolerance", TOLERANCE.value, ("code",)),
        ("--task", TASK.value, ("code", "compact", "circuit-tracer")),
    ):
        require(given is None or kind in users, name, given, f"none with --format={kind}")
    model = load_model(MODEL.value)
    circuit = load_circuit(CIRCUIT.value, model)
    if output is not None and kind != "compact":
        require_writable(user_path(output))
    if kind == "svg":
        write_whole(user_path(output), circuit_svg(circuit, background="#ffffff"))
        return
    if kind == "code":
        text = circuit.code(model, TASK.value, TOLERANCE.value or 0.0)
        print(text, end="") if output is None else write_whole(user_path(output), text)
        return
    pairs = pairs_of_test(model, circuit, TASK.value)
    outputs = sorted(set(pairs.candidates.reshape(-1).tolist()))
    if kind == "compact":
        with new_directory(user_path(output)) as directory:
            circuit.compact(model, outputs).save(directory)
        return
    tokens = pairs.tokens[0, 0, : pairs.last[0, 0] + 1]
    if PROMPT.value is not None:
        tokens = token_ids(model, PROMPT.value)[0]
    values = values_of(model, circuit)
    least = 0.01 if LEAST.value is None else LEAST.value
    graph = attribution_graph(model, circuit, values, tokens.tolist(), outputs, least)
    write_whole(user_path(output), json.dumps(graph, allow_nan=False))


if __name__ == "__main__":
    command.run(main)
