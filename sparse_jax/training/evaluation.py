"""Evaluation on held-out text during training."""

from collections.abc import Mapping

import jax
import numpy as np

from sparse_jax.model.config import ModelConfig
from sparse_jax.model.forward import Params, forward
from sparse_jax.model.hooks import Hooks
from sparse_jax.model.transformer import Shardings
from sparse_jax.sparsity.statistics import dead_neurons, kurtosis, nonzero_weights, total_nonzero
from sparse_jax.training.loss import cross_entropy
from sparse_jax.training.sharding import stream_sharding


class Evaluator:
    """Measures losses on fixed windows of each source, and counts weights; compiled once per run."""

    def __init__(
        self,
        config: ModelConfig,
        windows: Mapping[str, np.ndarray],
        weights: Mapping[str, float],
        batch_size: int,
        sharding: jax.sharding.NamedSharding,
    ):
        """windows: int32 [count, T + 1] per source, where count is a multiple of `batch_size`.

        weights: of the sources in the mixture. sharding: the sharding of a batch.
        """
        total = sum(weights.values())
        self._shares = {name: weights[name] / total for name in windows}
        self._batches = {
            name: [_spread(sharding, rows[i : i + batch_size]) for i in range(0, len(rows), batch_size)]
            for name, rows in windows.items()
        }
        stream = stream_sharding(sharding)
        self._statistics = jax.jit(_statistics)
        self._loss_and_kurtosis = jax.jit(
            lambda params, tokens: _loss_and_kurtosis(config, params, tokens, stream)
        )

    def __call__(self, params: Params) -> dict[str, float]:
        """Mean loss in nats on each source, their weighted mean, the final residual stream's kurtosis (on the
        first batch), L0 and the number of dead neurons.
        """
        measured = {
            name: [self._loss_and_kurtosis(params, batch) for batch in batches]
            for name, batches in self._batches.items()
        }
        row = {
            f"validation/{name}": float(np.mean([loss for loss, _ in found]))
            for name, found in measured.items()
        }
        mixture = sum(self._shares[name] * row[f"validation/{name}"] for name in self._batches)
        _, first = next(iter(measured.values()))[0]
        counts = {name: int(count) for name, count in self._statistics(params).items()}
        return {
            **row,
            "validation/mixture": mixture,
            "kurtosis": float(first),
            **counts,
        }


def _loss_and_kurtosis(config: ModelConfig, params: Params, tokens: jax.Array, stream: Shardings):
    """Of one forward pass: a program of its own for either would have to be traced and compiled again."""
    capture = Hooks(capture=("final_resid",))
    logits, found = forward(config, params, tokens[:, :-1], capture, stream=stream)
    return cross_entropy(logits, tokens), kurtosis(found["final_resid"])


def _statistics(params: Params) -> dict[str, jax.Array]:
    """L0 of every leaf, the layers, the embeddings and the full model, and the number of dead neurons."""
    nonzero, dead = total_nonzero(params), dead_neurons(params)["dead"]
    return {
        "nonzero_layers": nonzero["layers"],
        "nonzero_embeddings": nonzero["embeddings"],
        "nonzero": nonzero["total"],
        "dead_neurons": dead.sum(),
        **{f"nonzero/{name}": count for name, count in nonzero_weights(params).items()},
    }


def _spread(sharding: jax.sharding.NamedSharding, batch: np.ndarray) -> jax.Array:
    """Shards a batch of which every process has all rows."""
    return jax.make_array_from_callback(batch.shape, sharding, lambda place: batch[place])
