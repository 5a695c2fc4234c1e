"""Controls of a model (METHOD 8): what is found in them as well says nothing about the model.

The other control, a model trained on text in random order, is trained (`data.shuffled`).
"""

import dataclasses
import hashlib
from collections.abc import Callable

import jax
import numpy as np

from sparse_jax.inputs import whole_seed
from sparse_jax.models.model import Model
from sparse_jax.trees import map_named

Control = Callable[[Model, int], Model]


def random_weights(model: Model, seed: int = 0) -> Model:
    """The same architecture with the entries of every leaf in random order, in each layer by itself.

    So each matrix has as many nonzero weights and the same values as before, and nothing else that was
    learned is left: norms and biases are permuted too, since the order of their entries tells which channels
    matter, and a bias how frequent each token is. How many weights a single row or column has is left to
    chance. A sinusoidal table of positions is no weight, and stays. Tokenizer and run stay, so that the
    control is ablated to means over the same text. Raises InputError for what is no seed.
    """
    whole_seed("seed", seed)

    def permuted(name: str, leaf) -> np.ndarray:
        values = np.asarray(leaf)
        if name == "position/kernel" and model.config.positions == "sinusoidal":
            return values
        # by the leaf's name, so that no leaf depends on which others there are
        own = int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest())
        layers = len(values) if name.startswith("layers/") else 1
        rng = np.random.default_rng([seed, own])
        return rng.permuted(values.reshape(layers, -1), axis=1).reshape(values.shape)

    about = f"random weights of model {model.fingerprint}, seed {seed}"
    params = jax.device_put(map_named(permuted, model.params))
    return dataclasses.replace(model, params=params, origin=about, control=about)


MODEL_CONTROLS: dict[str, Control] = {"random_weights": random_weights}
