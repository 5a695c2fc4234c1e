"""The loss of bridges (METHOD 9): cross-entropy, normalized errors both ways, divergences of hybrid runs."""

from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
import optax

from sparse_jax.bridges.config import BridgeRun
from sparse_jax.bridges.hybrid import run, run_from
from sparse_jax.bridges.maps import decode, encode
from sparse_jax.model.config import ModelConfig
from sparse_jax.model.forward import Params
from sparse_jax.model.transformer import Shardings

# The trained parameters: "sparse", those of a model, and "bridges".
BridgedParams = Mapping[str, Params]


def nmse(found: jax.Array, target: jax.Array) -> jax.Array:
    """The mean squared error [..., D] divided by the target's variance around its mean channel by channel.

    1 is what the constant mean of the target gives.
    """
    around = target - target.reshape(-1, target.shape[-1]).mean(axis=0)
    return jnp.mean(jnp.square(found - target)) / jnp.mean(jnp.square(around))


def divergence(logits_BxTxV: jax.Array, target_BxTxV: jax.Array) -> jax.Array:
    """Mean KL divergence of the distributions of `logits` from those of `target`, in nats a token."""
    of = jax.nn.log_softmax
    return optax.losses.kl_divergence_with_log_targets(of(logits_BxTxV), of(target_BxTxV)).mean()


def loss_terms(
    config: BridgeRun,
    dense: ModelConfig,
    params: BridgedParams,
    dense_params: Params,
    tokens: jax.Array,
    stream: Shardings = (),
) -> dict[str, jax.Array]:
    """The terms of the loss that have a weight, before it: sums over locations, for tokens [B, T + 1].

    Gradients flow into `params` alone, and into the sparse model only if it is trained; there they flow
    through both what is mapped and what it is compared with. The term "dense_to_sparse_kl" comes from runs
    that begin in the dense model and end in the sparse one.
    """
    settings, sparse = config.bridges, config.model
    inputs, labels = tokens[:, :-1], tokens[:, 1:]
    bridges, sparse_params = params["bridges"], params["sparse"]
    if not settings.train_sparse:
        sparse_params = jax.lax.stop_gradient(sparse_params)
    sparse_logits, sparse_stream = run(sparse, sparse_params, inputs, stream)
    dense_logits, dense_stream = run(dense, dense_params, inputs, stream)
    encoded = [encode(bridges, i, x, settings.kept(sparse)) for i, x in enumerate(dense_stream)]
    decoded = [decode(bridges, i, x) for i, x in enumerate(sparse_stream)]

    def of_hybrids(model: ModelConfig, params: Params, streams: list[jax.Array]) -> jax.Array:
        ends = [run_from(model, params, inputs, i, x, stream)[0] for i, x in enumerate(streams)]
        return sum((divergence(logits, dense_logits) for logits in ends), jnp.float32(0))

    cross_entropy = optax.softmax_cross_entropy_with_integer_labels
    terms: dict[str, Callable[[], jax.Array]] = {
        "cross_entropy": lambda: cross_entropy(sparse_logits, labels).mean(),
        "encoder_nmse": lambda: sum(map(nmse, encoded, sparse_stream), jnp.float32(0)),
        "decoder_nmse": lambda: sum(map(nmse, decoded, dense_stream), jnp.float32(0)),
        "dense_to_sparse_kl": lambda: of_hybrids(sparse, sparse_params, encoded),
        "sparse_to_dense_kl": lambda: of_hybrids(dense, dense_params, decoded),
    }
    return {name: terms[name]() for name, weight in settings.weights.items() if weight > 0}


def bridge_loss(config: BridgeRun, terms: Mapping[str, jax.Array]) -> jax.Array:
    """The weighted sum of the terms of `loss_terms`."""
    return sum((config.bridges.weights[name] * term for name, term in terms.items()), jnp.float32(0))
