"""Converts a model from one format to another, and checks that nothing was lost.

python -m experiments.convert --from=DIR --to=DIR --format=openai
python -m experiments.convert --from=DIR --to=DIR --format=compact --control=random_weights --seed=0

--from is a released PyTorch model (beeg_config.json, final_model.pt, or its upload for Hugging Face), a
Hugging Face GPT-2, or a model of this library. --to becomes a new directory in the released format (openai),
in the Hugging Face format (hf), or in our own: only nonzero weights (compact) or all of them (safetensors).
Our own also get the means that are beside the model. A model without means whose training text is unknown
gets means over generated programs if it has a tokenizer.json, so that it can be pruned.
--control writes a control of the model instead (METHOD 8), which every command takes in the model's place.
"""

from absl import flags

from experiments import command
from experiments.flag_types import path_flag
from experiments.studies.round_trip import difference, sample
from sparse_jax.files import user_path
from sparse_jax.inputs import require
from sparse_jax.model.forward import summary
from sparse_jax.models.control_models import MODEL_CONTROLS
from sparse_jax.models.formats import OWN, WRITABLE, load_model, save_model
from sparse_jax.models.means import has_means, publish_means

FROM = path_flag("from", None, "the model's directory", required=True)
TO = path_flag("to", None, "a directory that does not exist yet", required=True)
FORMAT = flags.DEFINE_enum("format", None, WRITABLE, "what is written", required=True)
CONTROL = flags.DEFINE_enum(
    "control", None, tuple(MODEL_CONTROLS), "a control of the model, instead of the model"
)
SEED = flags.DEFINE_integer("seed", None, "with --control: of what is random in it (default: 0)", 0)


def main() -> None:
    """Reads, writes and reads again; prints nonzero weights by leaf, size, a sample and the difference."""
    require(CONTROL.value is not None or SEED.value is None, "--seed", SEED.value, "none without --control")
    model = load_model(FROM.value)
    if CONTROL.value is not None:
        model = MODEL_CONTROLS[CONTROL.value](model, SEED.value or 0)
    save_model(model, TO.value, FORMAT.value)
    output = user_path(TO.value)
    if FORMAT.value in OWN and model.run is None and model.tokenizer and not has_means(output):
        publish_means(load_model(output), output, programs=True)
    size = sum(path.stat().st_size for path in output.iterdir())
    print(summary(model.params))
    print(f"size: {size:,} bytes in {TO.value}")
    print(f"sample: {sample(model)!r}")
    print(f"round trip: largest difference of a weight {difference(model, load_model(TO.value)):g}")


if __name__ == "__main__":
    command.run(main)
