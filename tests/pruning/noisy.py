"""A random model of two layers with AbsTopK: nothing in it is known, and everything matters a little."""

import dataclasses
import functools

import jax
import numpy as np

from sparse_jax.ablation.judge import Judge
from sparse_jax.ablation.objective import pair_losses
from sparse_jax.circuits.gates import only_between_open
from sparse_jax.model import sites
from sparse_jax.model.config import ModelConfig
from sparse_jax.model.forward import initialize
from sparse_jax.tasks.encode import EncodedPairs

CONFIG = ModelConfig(
    vocab_size=12, context=8, n_layers=2, d_model=6, d_head=3, d_mlp=8, activation_fraction=0.5, bigram="none"
)
PAIRS = 20  # more than one batch of the judge, the last not full


@functools.cache
def noisy():
    """An judge; about half of the weights are 0, and the means are not."""
    rng = np.random.default_rng(0)

    def scaled(x):
        return x * 20 * rng.integers(0, 2, x.shape) if x.ndim > 2 else x * 20

    params = jax.tree.map(scaled, jax.device_get(initialize(CONFIG, jax.random.key(0))))
    params = jax.device_put(jax.tree.map(np.float32, params))
    shapes = sites.node_shapes(CONFIG, (*sites.LAYER_SITES, sites.FINAL_SITE))
    means = {site: np.float32(0.3 * rng.normal(size=shape)) for site, shape in shapes.items()}
    tokens = rng.integers(1, 12, (PAIRS, 2, 6)).astype(np.int32)
    last = rng.integers(3, 6, (PAIRS, 2)).astype(np.int32)
    # last, so that no test's model or pairs depend on it
    means[sites.EMBED_SITE] = np.float32(0.3 * rng.normal(size=CONFIG.d_model))
    candidates = np.tile(np.array([[4, 5], [5, 4]], np.int32), (PAIRS, 1, 1))
    return Judge(CONFIG, params, means, EncodedPairs(tokens, last, candidates))


def one_layer(judge):
    """The judge of a model of the first layer alone, for programs of half the size."""
    params = {**judge.params, "layers": jax.tree.map(lambda x: x[:1], judge.params["layers"])}
    ablated = {site: mean[:1] if mean.ndim > 1 else mean for site, mean in judge.ablated.items()}
    config = dataclasses.replace(judge.config, n_layers=1)
    return dataclasses.replace(judge, config=config, params=params, ablated=ablated)


def random_gates(seed, share=0.7, edges=False):
    """0/1 gates of all nodes of the layers, q and k alike, and of all edges if asked for."""
    rng = np.random.default_rng(seed)
    shapes = sites.node_shapes(CONFIG, sites.LAYER_SITES)
    shapes |= sites.edge_shapes(CONFIG) if edges else {}
    gates = {key: (rng.random(shape) < share).astype(np.float32) for key, shape in shapes.items()}
    return {**gates, "k": gates["q"]}


@functools.cache
def _losses():
    return jax.jit(functools.partial(pair_losses, CONFIG))


def losses_of(gates):
    """The losses [P] of the noisy model's pairs, by the plain function."""
    gates = only_between_open(gates)
    return np.asarray(_losses()(noisy().params, gates, noisy().ablated, noisy().pairs), np.float64)
