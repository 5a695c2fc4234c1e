"""What a converted model writes, and how far its weights are from those that it was made of."""

import jax
import jax.numpy as jnp
import numpy as np

from sparse_jax.data.tokenizer import end_of_text
from sparse_jax.model.generate import generate
from sparse_jax.models.model import Model
from sparse_jax.trees import named_leaves


def sample(model: Model) -> str | list[int]:
    """What the model writes after the end of a text (after token 0 where its tokenizer has none).

    Token numbers where no tokenizer was given.
    """
    count = min(32, model.config.context - 1)
    first = [] if model.tokenizer is None else end_of_text(model.tokenizer)
    prompt = jnp.array([first or [0]], jnp.int32)
    tokens = generate(model.config, model.params, prompt, count, jax.random.key(0), 0.8)[0, 1:].tolist()
    return tokens if model.tokenizer is None else model.tokenizer.decode(tokens)


def difference(before: Model, after: Model) -> float:
    """The largest difference of a weight; every leaf of one must be a leaf of the other."""
    pairs = zip(named_leaves(before.params).items(), named_leaves(after.params).items(), strict=True)
    return max(float(np.max(np.abs(np.asarray(a) - b))) for (_, a), (_, b) in pairs)
