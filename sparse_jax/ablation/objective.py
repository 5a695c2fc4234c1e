"""Logits and losses of a gated model on pairs of prompts."""

import functools

import jax
import jax.numpy as jnp

from sparse_jax.ablation.kinds import REMOVAL
from sparse_jax.circuits.edge_gates import gate_edges
from sparse_jax.circuits.gates import Gates, by_kind, partly_open
from sparse_jax.model import sites
from sparse_jax.model.config import ModelConfig
from sparse_jax.model.forward import Params, forward
from sparse_jax.model.hooks import Carried, Hooks
from sparse_jax.model.narrow import Narrow
from sparse_jax.tasks.metrics import LOSSES, logit_difference
from sparse_jax.tasks.packing import PackedPairs, Pairs
from sparse_jax.trees import Array


def last_logits(
    config: ModelConfig,
    params: Params,
    gates: Gates,
    ablated: Gates,
    pairs: Pairs,
    frozen_norms: bool = False,
    narrow: Narrow | None = None,
    share: Gates | None = None,
) -> jax.Array:
    """Logits [P, 2, V] at the last token of both members of each pair, under the gates of nodes and edges.

    ablated, share: closed nodes, and closed edges from a node, carry share * the node's own value +
    (1 - share) * ablated, by site (`draws.Ablated`). frozen_norms: every RMSNorm divides by its root mean
    square in the full model (which has to be run for this), however little of the stream is left. With
    `narrow` only its nodes are computed, and gates of edges are not allowed.
    """
    return run_gated(config, params, gates, ablated, pairs, frozen_norms, narrow, share)[0]


def run_gated(
    config: ModelConfig,
    params: Params,
    gates: Gates,
    ablated: Gates,
    pairs: Pairs,
    frozen_norms: bool = False,
    narrow: Narrow | None = None,
    share: Gates | None = None,
    capture: tuple[str, ...] = (),
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """The logits of `last_logits`, and the values at the sites `capture` for every token, [L, B, T, N]."""
    nodes, edges = by_kind(gates)
    tokens, last, branches = pairs.tokens, pairs.last, None
    if isinstance(pairs, PackedPairs):
        branches = pairs.branches
    else:
        tokens, last = tokens.reshape(-1, tokens.shape[-1]), last.reshape(-1)
    norms = {}
    if frozen_norms:
        norms = forward(config, params, tokens, Hooks(capture=sites.NORMS), branches=branches)[1]
    carried: dict[str, Carried] = {}
    if edges:
        params, carried = gate_edges(config, params, edges, ablated, share)
    values = {site: ablated[site] for site in nodes}
    hooks = Hooks(partly_open(nodes, share or {}), values, norms=norms, capture=capture, carried=carried)
    logits, captured = forward(config, params, tokens, hooks, last, branches, narrow)
    return logits.reshape(*pairs.last.shape, -1), captured


def pair_losses(
    config: ModelConfig,
    params: Params,
    gates: Gates,
    ablated: Gates,
    pairs: Pairs,
    objective: str = "binary",
    full_Px2xV: Array | None = None,
    frozen_norms: bool = False,
    narrow: Narrow | None = None,
    share: Gates | None = None,
) -> jax.Array:
    """The loss [P] of every pair under the gates; without gates, that of the full model.

    full_Px2xV: the full model's log-probabilities, needed by "kl" and "binary+kl". frozen_norms, narrow,
    share: as in `last_logits`.
    """
    logits = last_logits(config, params, gates, ablated, pairs, frozen_norms, narrow, share)
    return losses_of_logits(logits, pairs.candidates, objective, full_Px2xV)


def losses_of_logits(
    logits_Px2xV: Array, candidates_Px2x2: Array, objective: str, full_Px2xV: Array | None = None
) -> jax.Array:
    """The loss [P] of every pair; `full_Px2xV` as in `pair_losses`."""
    if objective == REMOVAL:
        # at most 0 where nothing is known; unlike "knowledge", its gradient does not vanish in the full model
        return jnp.maximum(logit_difference(logits_Px2xV, candidates_Px2x2), 0.0)
    if objective in LOSSES:
        return LOSSES[objective](logits_Px2xV, candidates_Px2x2)
    assert full_Px2xV is not None  # the other objectives need it
    divergence = kl_from_full(logits_Px2xV, full_Px2xV)
    return divergence if objective == "kl" else divergence + LOSSES["binary"](logits_Px2xV, candidates_Px2x2)


def kl_from_full(logits_Px2xV: Array, full_Px2xV: Array) -> jax.Array:
    """KL(full model || circuit) of the next-token distributions.

    In nats over the full vocabulary, mean over both members: [P].
    """
    circuit = jax.nn.log_softmax(logits_Px2xV, axis=-1)
    return jnp.sum(jnp.exp(full_Px2xV) * (full_Px2xV - circuit), axis=-1).mean(axis=-1)


def full_log_probabilities(config: ModelConfig, params: Params, tasks: Pairs, batch_size: int) -> jax.Array:
    """The full model's log-probabilities [K, P, 2, V] at the last tokens of K tasks' pairs."""
    return _log_probabilities(config, batch_size)(params, tasks)


@functools.cache
def _log_probabilities(config: ModelConfig, batch_size: int):
    def of_pair(params, pair):
        one = jax.tree.map(lambda array: array[None], pair)
        return jax.nn.log_softmax(last_logits(config, params, {}, {}, one)[0], axis=-1)

    def of_tasks(params, tasks):
        pairs = jax.tree.map(lambda array: array.reshape(-1, *array.shape[2:]), tasks)
        found = jax.lax.map(functools.partial(of_pair, params), pairs, batch_size=batch_size)
        return found.reshape(*tasks.last.shape, -1)

    return jax.jit(of_tasks)
