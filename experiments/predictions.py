"""How alike a sparse and a dense model predict: losses of single tokens, kurtosis of activations.

python -m experiments.predictions --output=experiments/results/predictions

--output gets rows.jsonl, table.md and losses.png. The training text of the models is needed, and prepared if
necessary. A minute on one CPU core.
"""

from absl import flags

from experiments import command
from experiments.flag_types import path_flag
from experiments.studies.figure import require_figures
from experiments.studies.held_out import held_out_windows
from experiments.studies.predictions import (
    predictions,
    report_rows,
    require_comparable,
    write_predictions,
)
from sparse_jax.files import require_writable, user_path
from sparse_jax.models.formats import load_model
from sparse_jax.models.means import training_corpus

SMALL = "experiments/results/small"
PLACES = {name: path_flag(name, f"{SMALL}/{name}", f"the {name} model") for name in ("sparse", "dense")}
WINDOWS = flags.DEFINE_integer("windows", 256, "how many windows of held-out text", 2)
OUTPUT = path_flag("output", None, "a folder for what is found", required=True)


def main() -> None:
    """Checks both models, then runs them on the same text."""
    output = user_path(OUTPUT.value)
    require_figures()
    require_writable(output / "rows.jsonl")
    models = {name: load_model(place.value) for name, place in PLACES.items()}
    require_comparable(*models.values())
    sparse = models["sparse"]
    windows = held_out_windows(training_corpus(sparse), sparse.config.context, WINDOWS.value)
    found = {name: predictions(model, windows) for name, model in models.items()}
    print(write_predictions(found, report_rows(found, models), output))


if __name__ == "__main__":
    command.run(main)
