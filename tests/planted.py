"""A model whose circuit is known because it was put there by hand.

Token 1 or 2 as the last of a prompt decides between tokens 4 and 5. Only one path carries that: channel
0 of the stream (written by the embedding) -> mlp_in 0 -> neuron 3 -> mlp_out 1 -> unembedding of channel 1.
That is METHOD 7's example, one neuron with one read and one write: 3 nodes and 2 edges. All other
weights are noise which cannot reach tokens 4 and 5.
"""

import json

import jax
import jax.numpy as jnp
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


def planted_params():
    params = initialize(CONFIG, jax.random.key(0))
    noise = map_named(lambda name, x: 4 * x if name.endswith("kernel") else x, params)
    embed = noise["embed"]["kernel"].at[:, 0].set(0).at[:, 1].set(0)
    embed = embed.at[1, 0].set(1.0).at[2, 0].set(-1.0)
    # the prompt's other tokens tell nothing: 1 and 2 are the same but for channel 0
    embed = embed.at[2, 1:].set(embed[1, 1:])
    # a large constant keeps the norms from undoing what a gate takes away
    embed = embed.at[:, 2].set(4.0)
    unembed = noise["unembed"]["kernel"].at[:, 4].set(0).at[:, 5].set(0)
    unembed = unembed.at[1, 4].set(2.0).at[1, 5].set(-2.0)
    attn, mlp = noise["layers"]["attn"], noise["layers"]["mlp"]
    # nothing but neuron 3 writes to channel 1, and it reads and writes nothing else
    out = {**attn["out"], "kernel": attn["out"]["kernel"].at[..., 1].set(0)}
    up = {**mlp["up"], "kernel": mlp["up"]["kernel"].at[:, :, 3].set(0).at[:, 0, 3].set(2.0)}
    down = mlp["down"]["kernel"].at[..., 1].set(0).at[:, 3].set(0).at[:, 3, 1].set(2.0)
    # a bias, so that token 4 wins where the neuron is silent
    down = {"kernel": down, "bias": mlp["down"]["bias"].at[:, 1].set(-1.5)}
    layers = {
        **noise["layers"],
        "attn": {**attn, "out": out},
        "mlp": {**mlp, "up": up, "down": down},
    }
    return {**noise, "embed": {"kernel": embed}, "unembed": {"kernel": unembed}, "layers": layers}


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
    gates = {site: jnp.zeros(shape) for site, shape in shapes.items()}
    for site, index in CIRCUIT:
        gates[site] = gates[site].at[0, index].set(1)
    return gates


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
