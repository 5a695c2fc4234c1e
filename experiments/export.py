"""Exports a circuit: as code, as a small model of its own, as a picture, or for other viewers.

python -m experiments.export --model=experiments/results/small/sparse --circuit=FILE --format=code

--format=code prints a program that a person can read and NumPy can run, or writes it to --output.
--format=compact makes the new directory --output, for `sj.load_compact`.
--format=svg writes its picture.
--format=circuit-tracer writes the JSON of an attribution graph on one prompt to --output, for the viewers of
circuit-tracer and Neuronpedia: on --prompt, or else the first prompt of the task's test split.
"""

from absl import flags

from experiments import command
from experiments.flag_types import path_flag
from experiments.studies.exports import FORMATS, SHARE, Asked
from sparse_jax.files import new_directory, require_writable, user_path, write_whole
from sparse_jax.inputs import require
from sparse_jax.interactive import load_circuit
from sparse_jax.models.formats import load_model

MODEL = path_flag("model", None, "the model that the circuit is of", required=True)
CIRCUIT = path_flag("circuit", None, "the circuit's file", required=True)
FORMAT = flags.DEFINE_enum("format", None, tuple(FORMATS), "what is made", required=True)
OUTPUT = path_flag("output", None, "where it goes; code is printed without")
TASK = flags.DEFINE_string("task", None, "the circuit's task, if it is one of your own")
PROMPT = flags.DEFINE_string("prompt", None, "with --format=circuit-tracer: the text that the graph is of")
TOLERANCE = flags.DEFINE_float(
    "tolerance", None, "with --format=code: share of answers that may change (0); 0.02 is shorter", 0, 1
)
LEAST = flags.DEFINE_float(
    "least", None, f"with --format=circuit-tracer: links below this share of what reaches a node go ({SHARE})"
)


def main() -> None:
    """Checks everything that can be checked at once, then exports."""
    kind, output = FORMAT.value, OUTPUT.value
    require(output is not None or kind == "code", "--output", output, f"a path, with --format={kind}")
    asked = Asked(TASK.value, PROMPT.value, TOLERANCE.value, LEAST.value)
    for name, given in asked._asdict().items():
        is_read = given is None or name in FORMATS[kind].reads
        require(is_read, f"--{name}", given, f"none with --format={kind}")
    model = load_model(MODEL.value)
    circuit = load_circuit(CIRCUIT.value, model)
    make, path = FORMATS[kind].make, None if output is None else user_path(output)
    if kind == "compact":
        with new_directory(path) as directory:
            make(model, circuit, asked).save(directory)
        return
    if path is not None:
        require_writable(path)
    text = make(model, circuit, asked)
    print(text, end="") if path is None else write_whole(path, text)


if __name__ == "__main__":
    command.run(main)
