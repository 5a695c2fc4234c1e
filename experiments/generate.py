"""Shows a trained model writing code.

python -m experiments.generate --workdir=runs/quickstart/sparse --prompt='def total(values):'
"""

import jax
import jax.numpy as jnp
from absl import flags

from experiments import command
from experiments.flag_types import path_flag
from sparse_jax.interactive import token_ids
from sparse_jax.model.generate import generate
from sparse_jax.models.formats import load_model

WORKDIR = path_flag("workdir", None, "the model: a training run, or any other form", required=True)
PROMPT = flags.DEFINE_string("prompt", "def ", "the text to go on from")
TOKENS = flags.DEFINE_integer("tokens", 64, "how many tokens to write", 0)
SAMPLES = flags.DEFINE_integer("samples", 2, "how many texts to write", 1, 1000)
TEMPERATURE = flags.DEFINE_float("temperature", 0.8, "0 takes the most likely token")
TOP_K = flags.DEFINE_integer("top_k", None, "sample only among this many most likely tokens (default: all)")
SEED = flags.DEFINE_integer("seed", 0, "the seed for sampling")


def main() -> None:
    """Prints the samples, each after a line of dashes."""
    model = load_model(WORKDIR.value)
    tokenizer, prompt = model.require_tokenizer(), token_ids(model, PROMPT.value)
    tokens = generate(
        model.config,
        model.params,
        jnp.tile(prompt, (SAMPLES.value, 1)),
        TOKENS.value,
        jax.random.key(SEED.value),
        TEMPERATURE.value,
        TOP_K.value,
    )
    for row in tokens.tolist():
        print("-" * 20)
        print(tokenizer.decode(row, skip_special_tokens=False))


if __name__ == "__main__":
    command.run(main)
