"""Steers the dense model by a node of the sparse one, through the node's row of the bridge (METHOD 9)."""

import functools
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from sparse_jax.bridges.hybrid import channel_of, locations, run, run_from
from sparse_jax.bridges.train import BridgedPair
from sparse_jax.inputs import InputError, require
from sparse_jax.model import sites
from sparse_jax.model.config import ModelConfig
from sparse_jax.model.forward import Params, forward
from sparse_jax.model.hooks import Hooks
from sparse_jax.models.model import Model
from sparse_jax.tasks.encode import EncodedPairs


class Streams(NamedTuple):
    """The residual streams of both models on B prompts, and how they differ on the counterfactuals.

    tokens: [B, T]. last: [B]. answers: [B, 2], the right and the other answer. sparse, dense: [M, B, T, D] on
    the prompts, for M locations. sparse_change, dense_change: the counterfactual's stream minus the prompt's,
    with the two texts aligned at their last tokens; 0 after them.
    """

    tokens: jax.Array
    last: jax.Array
    answers: jax.Array
    sparse: jax.Array
    dense: jax.Array
    sparse_change: jax.Array
    dense_change: jax.Array


def streams(pair: BridgedPair, pairs: EncodedPairs) -> Streams:
    """Both members of every pair as prompts, each with the other as its counterfactual."""
    prompts = pairs.flat()
    swapped = np.arange(len(prompts.last)) ^ 1
    apart = prompts.last[swapped] - prompts.last
    index_BxT = np.arange(prompts.tokens.shape[1]) + apart[:, None]
    index = jnp.asarray(np.clip(index_BxT, 0, prompts.tokens.shape[1] - 1)[:, :, None])
    within = jnp.asarray(np.arange(prompts.tokens.shape[1]) <= prompts.last[:, None])[:, :, None]

    def of(model: Model) -> tuple[jax.Array, jax.Array]:
        stream = jnp.stack(_streams(model.config, model.params, prompts.tokens))
        return stream, (jnp.take_along_axis(stream[:, swapped], index[None], axis=2) - stream) * within

    sparse, dense = of(pair.sparse), of(pair.dense)
    tokens, last, answers = map(jnp.asarray, prompts)
    return Streams(tokens, last, answers, sparse[0], dense[0], sparse[1], dense[1])


def bridge_addition(pair: BridgedPair, node: str, on: Streams, scaled: bool = True) -> jax.Array:
    """What METHOD 9 adds to the dense stream at strength 1: [B, T, D], at the location that `node` reads.

    The change of the node's residual channel, times the decoder's row of that channel, times the ratio of the
    RMS of the dense to that of the sparse stream at the token (not if not `scaled`: the bridge's own scale).
    Raises InputError for a node that reads no residual channel.
    """
    number, channel = channel_of(pair.sparse.config, node)
    return _addition(pair, number, channel, on, scaled)


def control_additions(
    pair: BridgedPair, node: str, on: Streams, train: Streams, count: int, seed: int
) -> dict[str, list[jax.Array]]:
    """Additions to compare `bridge_addition` with, all at its location.

    "unscaled": without the ratio of norms. "random node": `count` others of the location, with the norm of
    the addition at every token. "difference of means": the same norm, along the mean change of the dense
    stream over `train` prompts, its sign turned as the node's change is. "whole stream": the dense
    model's own stream on the counterfactual, however large. Raises InputError as `bridge_addition` does, and
    for more random nodes than there are.
    """
    number, channel = channel_of(pair.sparse.config, node)
    width = pair.sparse.config.d_model
    require(0 <= count < width, "random nodes", count, f"0 to {width - 1}")
    addition = _addition(pair, number, channel, on, True)
    norm = jnp.linalg.norm(addition, axis=-1, keepdims=True)
    rows = pair.bridges["decoder"]["kernel"][number]
    others = np.delete(np.arange(width), channel)
    chosen = np.random.default_rng(seed).choice(others, count, replace=False)
    random = [rows[other] / jnp.maximum(jnp.linalg.norm(rows[other]), 1e-12) for other in chosen]
    change = train.sparse_change[number, ..., channel, None]
    mean = (change * train.dense_change[number]).mean(axis=(0, 1))
    mean = mean / jnp.maximum(jnp.linalg.norm(mean), 1e-12)
    signed = norm * jnp.sign(on.sparse_change[number, ..., channel, None])
    return {
        "unscaled": [_addition(pair, number, channel, on, False)],
        "random node": [signed * direction for direction in random],
        "difference of means": [signed * mean],
        "whole stream": [on.dense_change[number]],
    }


def steered(
    pair: BridgedPair, node: str, on: Streams, addition: jax.Array, strengths: Sequence[float]
) -> np.ndarray:
    """The dense model's probability of the other answer after each prompt, [len(strengths), B].

    addition: [B, T, D], added times each strength to the stream that `node` reads. Raises InputError for a
    strength outside [0, 1].
    """
    for strength in strengths:
        require(0 <= strength <= 1, "strength", strength, "0 to 1")
    number, _ = channel_of(pair.sparse.config, node)
    model = pair.dense
    return np.stack(
        [_steered(model.config, model.params, number, on, addition, float(s))[0] for s in strengths]
    )


def node_effects(pair: BridgedPair, nodes: Sequence[str], on: Streams) -> Mapping[str, float]:
    """How much each node's counterfactual value raises the sparse model's probability of the other answer.

    A mean over prompts. The change is made in the residual channel that the node reads, so all later readers
    see it. Nodes that read none are left out. Raises InputError for nodes without any that does.
    """
    model, found = pair.sparse, {}
    for node in nodes:
        try:
            number, channel = channel_of(model.config, node)
        except InputError:
            continue
        change = on.sparse_change[number] * (jnp.arange(model.config.d_model) == channel)
        stream = on.sparse[number]
        after, before = (
            _other_answer(model.config, model.params, number, on, stream + part * change).mean()
            for part in (1.0, 0.0)
        )
        found[node] = float(after - before)
    require(len(found) > 0, "nodes", list(nodes), "at least one of attn_in, mlp_in or final_resid")
    return found


def _addition(pair: BridgedPair, number: int, channel: int, on: Streams, scaled: bool) -> jax.Array:
    change = on.sparse_change[number, ..., channel, None] * pair.bridges["decoder"]["kernel"][number, channel]
    return change * (_rms(on.dense[number]) / _rms(on.sparse[number])) if scaled else change


def _rms(x: jax.Array) -> jax.Array:
    return jnp.sqrt(jnp.mean(jnp.square(x), axis=-1, keepdims=True))


@functools.partial(jax.jit, static_argnames="config")
def _streams(config: ModelConfig, params: Params, tokens: jax.Array) -> list[jax.Array]:
    return run(config, params, tokens)[1]


@functools.partial(jax.jit, static_argnames=("config", "number"))
def _steered(config: ModelConfig, params: Params, number: int, on: Streams, addition, strength):
    """Probabilities [B] of the other answer with the addition, and the logits [B, V]."""
    place = locations(config)[number]
    value = strength * addition
    if sites.in_layers(place.site):
        value = value * (jnp.arange(config.n_layers) == place.layer).reshape(-1, 1, 1, 1)
    logits, _ = forward(config, params, on.tokens, Hooks(additions={place.site: value}), at_B=on.last)
    return _probability(logits, on), logits


@functools.partial(jax.jit, static_argnames=("config", "number"))
def _other_answer(config: ModelConfig, params: Params, number: int, on: Streams, x: jax.Array) -> jax.Array:
    logits, _ = run_from(config, params, on.tokens, number, x)
    at_last = jnp.take_along_axis(logits, on.last[:, None, None], axis=1)[:, 0]
    return _probability(at_last, on)


def _probability(logits_BxV: jax.Array, on: Streams) -> jax.Array:
    """Of the other answer, over the whole vocabulary: [B]."""
    return jnp.take_along_axis(jax.nn.softmax(logits_BxV), on.answers[:, 1:], axis=-1)[:, 0]
