"""What is measured on a circuit and its model: losses and margins of every pair under one intervention."""

import dataclasses
import functools
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np

from sparse_jax.ablation.applied import circuit_hooks, circuit_judge, circuit_logits, values_of
from sparse_jax.ablation.judge import Judge
from sparse_jax.ablation.objective import pair_losses
from sparse_jax.circuits.gates import Gates, by_kind
from sparse_jax.circuits.graph import Circuit
from sparse_jax.inputs import require
from sparse_jax.model.config import ModelConfig
from sparse_jax.model.forward import forward
from sparse_jax.model.hooks import Hooks, Patch
from sparse_jax.models.model import Model
from sparse_jax.tasks.encode import EncodedPairs
from sparse_jax.tasks.metrics import binary_loss, logit_difference

# The sites whose values decide what heads attend to and move, and what neurons compute.
INNER_SITES = ("q", "k", "v", "mlp_neuron")
BATCH = 32  # pairs
Activations = dict[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class Probe:
    """A circuit, its model, and the pairs that both are measured on.

    text: windows [W, T] of training text, if values are to be resampled from it. Every method returns figures of each pair [P], or of each draw and pair [D, P].
    """

    model: Model
    circuit: Circuit
    pairs: EncodedPairs
    text: np.ndarray | None = None

    def __post_init__(self) -> None:
        require(len(self.pairs.tokens) > 1, "pairs", len(self.pairs.tokens), "at least 2")

    @functools.cached_property
    def values(self) -> Gates:
        """What closed nodes were ablated to when the circuit was found, by site."""
        return values_of(self.model, self.circuit)

    @functools.cached_property
    def nodes(self) -> dict[str, np.ndarray]:
        """The circuit's gates of nodes."""
        return by_kind(self.circuit.gates(self.model.config))[0]

    @functools.cached_property
    def full_logits(self) -> np.ndarray:
        """The full model's logits [P, 2, V]."""
        return Judge(self.model.config, self.model.params, {}, self.pairs).logits({})

    def circuit_losses(self, ablation: str, draws: int = 1) -> np.ndarray:
        """The circuit's loss in nats [D, P] with everything else ablated so, in D draws of a random kind."""
        judge = circuit_judge(
            self.model, self.circuit, self.pairs, ablation, values=self.values, text=self.text, draws=draws
        )
        logits = judge.logits(self.circuit.gates(self.model.config))
        losses_M = np.asarray(binary_loss(logits, judge.candidates))
        return losses_M.reshape(len(self.pairs.tokens), -1).T  # items are pairs, each with its draws

    def circuit_margins(self) -> np.ndarray:
        """The circuit's logit difference [P] under the ablation that it was found with."""
        return np.asarray(logit_difference(self.circuit_logits(), self.pairs.candidates))

    def empty_margins(self) -> np.ndarray:
        """The logit difference [P] where all gated nodes are ablated."""
        closed = {site: np.zeros_like(gate) for site, gate in self.nodes.items()}
        judge = Judge(self.model.config, self.model.params, self.values, self.pairs)
        return np.asarray(logit_difference(judge.logits(closed), self.pairs.candidates))

    def losses_without(self, nodes_CxLxN: Gates) -> np.ndarray:
        """The full model's loss in nats [C, P] with each of C sets of nodes (1 in its mask) ablated alone."""
        run = _compiled_sets(self.model.config)
        gates = {site: 1 - jnp.asarray(mask, jnp.float32) for site, mask in nodes_CxLxN.items()}
        found = [np.asarray(run(self.model.params, self.values, gates, batch)) for batch in self._batches()]
        return np.concatenate(found, axis=1)[:, : len(self.pairs.tokens)]

    def swapped_margins(self, nodes: Mapping[str, np.ndarray]) -> np.ndarray:
        """The full model's logit differences [P, 2] with `nodes` carrying what the other member gives them.

        nodes: masks [L, N] by site. Members are aligned at their last tokens; before the shorter one begins,
        nothing is swapped.
        """
        run = _compiled_swap(self.model.config)
        masks = {site: jnp.asarray(mask, bool) for site, mask in nodes.items()}
        found = [np.asarray(run(self.model.params, masks, batch)) for batch in self._batches()]
        return np.concatenate(found)[: len(self.pairs.tokens)]

    def activations(self, names: tuple[str, ...]) -> tuple[Activations, Activations]:
        """Values of sites at every member's last token, [L, 2P, N]: in the full model, and in the circuit."""
        run, count = _compiled_last(self.model.config, names), 2 * len(self.pairs.tokens)
        full, pruned = [], []
        for batch in self._batches():
            tokens = jnp.asarray(batch.tokens.reshape(-1, batch.tokens.shape[-1]))
            last = jnp.asarray(batch.last.reshape(-1))
            params, hooks = circuit_hooks(self.model, self.circuit, self.values, tokens)
            full.append(run(self.model.params, tokens, last, Hooks()))
            pruned.append(run(params, tokens, last, hooks))

        def whole(parts) -> Activations:
            return {site: np.concatenate([part[site] for part in parts], axis=1)[:, :count] for site in names}

        return whole(full), whole(pruned)

    def circuit_logits(self, ablation: str | None = None, seed: int = 0) -> np.ndarray:
        """The circuit's logits [P, 2, V], with everything else ablated so; None as when it was found."""
        return circuit_logits(self.model, self.circuit, self.pairs, ablation, seed, self.values)

    def _batches(self):
        """BATCH pairs at a time; the last are filled up with copies of the last pair."""
        count = len(self.pairs.tokens)
        size = min(BATCH, count)
        for start in range(0, count, size):
            chosen = np.minimum(np.arange(start, start + size), count - 1)
            yield EncodedPairs(*(array[chosen] for array in self.pairs))


@functools.cache
def _compiled_sets(config: ModelConfig):
    def run(params, values, gates_C, pairs):
        ablated = {site: values[site] for site in gates_C}
        return jax.lax.map(lambda gates: pair_losses(config, params, gates, ablated, pairs), gates_C)

    return jax.jit(run)


@functools.cache
def _compiled_last(config: ModelConfig, site_names: tuple[str, ...]):
    def run(params, tokens, last, hooks):
        found = forward(config, params, tokens, dataclasses.replace(hooks, capture=site_names))[1]
        at = last[None, :, None, None]
        return {site: jnp.take_along_axis(found[site], at, axis=2)[:, :, 0] for site in site_names}

    return jax.jit(run)


@functools.cache
def _compiled_swap(config: ModelConfig):
    def run(params, masks, pairs):
        tokens, last = pairs.tokens.reshape(-1, pairs.tokens.shape[-1]), pairs.last.reshape(-1)
        other = jnp.arange(len(tokens)) ^ 1  # members stand side by side
        source_BxT = jnp.arange(tokens.shape[1]) - last[:, None] + last[other][:, None]
        there = (source_BxT >= 0)[None, :, :, None]
        at = jnp.clip(source_BxT, 0, tokens.shape[1] - 1)[None, :, :, None]
        captured = forward(config, params, tokens, Hooks(capture=tuple(masks)))[1]
        patches = {
            site: Patch(
                mask[:, None, None] & there, jnp.take_along_axis(captured[site][:, other], at, axis=2)
            )
            for site, mask in masks.items()
        }
        logits = forward(config, params, tokens, Hooks(patches=patches))[0]
        logits = jnp.take_along_axis(logits, last[:, None, None], axis=1)[:, 0]
        two = jnp.take_along_axis(logits, pairs.candidates.reshape(-1, 2), axis=1)
        return (two[:, 0] - two[:, 1]).reshape(-1, 2)

    return jax.jit(run)


def matched_sets(nodes: Gates, count: int, seed: int = 0) -> dict[str, np.ndarray]:
    """`count` random sets [C, L, N] with as many nodes of every layer and site as `nodes`, none of them.

    Where too few others are there, all of those are taken.
    """
    rng, found = np.random.default_rng(seed), {}
    for site, gate in nodes.items():
        rows = np.atleast_2d(np.asarray(gate) > 0)
        sets = np.zeros((count, *rows.shape), np.float32)
        for layer, row in enumerate(rows):
            places = np.flatnonzero(~row)
            for one in sets:
                one[layer, rng.choice(places, min(len(places), int(row.sum())), replace=False)] = 1
        found[site] = sets.reshape(count, *np.shape(gate))
    return found


def inner(nodes: Mapping[str, np.ndarray], inverted: bool = False) -> dict[str, np.ndarray]:
    """The masks of `nodes` at the inner sites, or of all others there."""
    kept = {site: np.asarray(nodes[site]) > 0 for site in INNER_SITES if site in nodes}
    return {site: ~mask for site, mask in kept.items()} if inverted else kept
