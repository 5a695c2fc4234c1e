"""A model whose circuit is known because it was put there by hand.

Token 1 or 2 as the last of a prompt decides between tokens 4 and 5. Only one path carries that: channel
0 of the stream (written by the embedding) -> mlp_in 0 -> neuron 3 -> mlp_out 1 -> unembedding of channel 1.
That is METHOD 7's example, one neuron with one read and one write: 3 nodes and 2 edges. All other
weights are noise which cannot reach tokens 4 and 5.
"""

import functools
import json

import jax
import numpy as np
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from sparse_jax.data.config import data_config
from sparse_jax.data.tokenizer import END_OF_TEXT
from sparse_jax.model.config import ModelConfig
from sparse_jax.model.forward import initialize
from sparse_jax.models.model import Model
from sparse_jax.pruning.config import PruneConfig
from sparse_jax.sparsity.config import SparsityConfig
from sparse_jax.tasks.encode import EncodedPairs
from sparse_jax.tasks.pair import Pair
from sparse_jax.tasks.task import Task
from sparse_jax.training.config import RunConfig, TrainConfig
from sparse_jax.training.optimizer import OptimizerConfig
from sparse_jax.trees import map_named

CONFIG = ModelConfig(
    vocab_size=8,
    context=8,
    n_layers=1,
    d_model=8,
    d_mlp=8,
    d_head=4,
    activation="relu",
    activation_fraction=None,
    attention_sink=False,
    bigram="none",
)
CIRCUIT = (("mlp_in", 0), ("mlp_neuron", 3), ("mlp_out", 1))
# Prunes the planted model down to its circuit, in a second.
PRUNE = PruneConfig(
    steps=60,
    pairs_per_step=4,
    train_pairs=8,
    validation_pairs=4,
    test_pairs=4,
    learning_rate=0.02,
    k_coef=0.01,
)


@functools.cache
def _initial():
    return jax.device_get(initialize(CONFIG, jax.random.key(0)))


def planted_params():
    params = map_named(lambda name, x: 4 * x if name.endswith("kernel") else np.array(x), _initial())
    embed, unembed = params["embed"]["kernel"], params["unembed"]["kernel"]
    embed[:, :2] = 0
    embed[1, 0], embed[2, 0] = 1, -1
    # the prompt's other tokens tell nothing: 1 and 2 are the same but for channel 0
    embed[2, 1:] = embed[1, 1:]
    # a large constant keeps the norms from undoing what a gate takes away
    embed[:, 2] = 4
    unembed[:, 4:6] = 0
    unembed[1, 4], unembed[1, 5] = 2, -2
    attn, mlp = params["layers"]["attn"], params["layers"]["mlp"]
    # nothing but neuron 3 writes to channel 1, and it reads and writes nothing else
    attn["out"]["kernel"][..., 1] = 0
    up, down = mlp["up"]["kernel"], mlp["down"]["kernel"]
    up[:, :, 3] = 0
    up[:, 0, 3] = 2
    down[..., 1] = 0
    down[:, 3] = 0
    down[:, 3, 1] = 2
    # a bias, so that token 4 wins where the neuron is silent
    mlp["down"]["bias"][:, 1] = -1.5
    return jax.device_put(params)


def planted_pairs(count: int, seed: int = 0) -> EncodedPairs:
    """Prompts of three tokens that end in 1 (then 4 is right) or 2 (then 5 is)."""
    rng = np.random.default_rng(seed)
    tokens = rng.integers(6, 8, (count, 1, 3)).repeat(2, axis=1).astype(np.int32)
    tokens[:, 0, 2], tokens[:, 1, 2] = 1, 2
    candidates = np.tile(np.array([[4, 5], [5, 4]], np.int32), (count, 1, 1))
    return EncodedPairs(tokens, np.full((count, 2), 2, np.int32), candidates)


def planted_gates():
    """Only the circuit's gates open."""
    from sparse_jax.model import sites

    shapes = sites.node_shapes(CONFIG, sites.LAYER_SITES)
    gates = {site: np.zeros(shape, np.float32) for site, shape in shapes.items()}
    for site, index in CIRCUIT:
        gates[site][0, index] = 1
    return jax.device_put(gates)


class Planted(Task):
    """A task whose tokens are single characters: the last of "1" and "2" decides between "4" and "5".

    Its splits differ in the seed only.
    """

    @property
    def shifts(self):
        return ("other",)

    @property
    def splits(self):
        return (*super().splits, "shifted", "other", "other_train", "other_validation")

    def pairs(self, split, count, seed):
        rng = np.random.default_rng([len(split), seed])
        starts = ["".join(rng.choice(["6", "7"], 2)) for _ in range(count)]
        return [Pair(start + "1", start + "2", "4", "5") for start in starts]


def planted_model() -> Model:
    """The model with a tokenizer of the characters "1" to "7", as if it had been trained."""
    words = {END_OF_TEXT: 0, **{str(i): i for i in range(1, 8)}}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token=END_OF_TEXT))
    tokenizer.decoder = decoders.Fuse()
    tokenizer.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    data = data_config({"sources": {"s": {"kind": "simple_python"}}})
    run = RunConfig(CONFIG, SparsityConfig(), OptimizerConfig(), data, TrainConfig())
    return Model(CONFIG, planted_params(), tokenizer, "planted", json.loads(run.to_json()))
