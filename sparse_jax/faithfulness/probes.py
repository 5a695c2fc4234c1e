"""What is run on a circuit and its model: margins of every pair under one intervention, and activations."""

import dataclasses
import functools
from collections.abc import Iterator, Mapping
from typing import NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from sparse_jax.ablation.constants import averages
from sparse_jax.ablation.draws import constant_ablated
from sparse_jax.ablation.judged import circuit_judge
from sparse_jax.ablation.objective import last_logits
from sparse_jax.circuits.applied import (
    carried,
    circuit_hooks,
    has_frozen_norms,
    own_ablation,
    values_of,
)
from sparse_jax.circuits.gates import Gates, by_kind
from sparse_jax.circuits.graph import Circuit
from sparse_jax.inputs import require
from sparse_jax.model import sites
from sparse_jax.model.config import ModelConfig
from sparse_jax.model.forward import forward
from sparse_jax.model.hooks import Hooks, Patch
from sparse_jax.models.model import Model
from sparse_jax.tasks.encode import EncodedPairs
from sparse_jax.tasks.metrics import binary_loss
from sparse_jax.tasks.packing import Pairs, shortest

# The sites whose values decide what heads attend to and move, and what neurons compute.
INNER_SITES = ("q", "k", "v", "mlp_neuron")
BATCH = 32  # pairs
SETS = 32  # of gates, in one call
P = TypeVar("P", bound=Pairs)


class Runs(NamedTuple):
    """The full model ("full"), the circuit ("pruned"), and each with the other's values at kept nodes.

    margins: by run, [B], of the first member's right answer for both members, so that its sign says which
    answer was given. values: of full and pruned, at every prompt's last token, by site [L, B, N]. patterns:
    attention of full and pruned from the last token, [L, B, H, T].
    """

    margins: dict[str, np.ndarray]
    values: dict[str, dict[str, np.ndarray]]
    patterns: dict[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class Probe:
    """A circuit, its model, and the pairs that both are measured on.

    text: windows [W, T] of training text, if values are to be resampled from it.
    """

    model: Model
    circuit: Circuit
    pairs: EncodedPairs
    text: np.ndarray | None = None

    def __post_init__(self) -> None:
        require(len(self.pairs.tokens) > 1, "pairs", len(self.pairs.tokens), "at least 2")

    @functools.cached_property
    def means(self) -> Gates:
        """The means of nodes that the circuit was found with, by site."""
        return values_of(self.model, self.circuit)

    @property
    def ablation(self) -> str:
        """The constant ablation of everything that does not say another one."""
        return own_ablation(self.circuit)

    @functools.cached_property
    def nodes(self) -> dict[str, np.ndarray]:
        """The circuit's gates of nodes."""
        return by_kind(self.circuit.gates(self.model.config))[0]

    @functools.cached_property
    def full_logits(self) -> np.ndarray:
        """The full model's logits [P, 2, V]."""
        opened = {name: np.ones_like(gate) for name, gate in self.circuit.gates(self.model.config).items()}
        return self._judge(self.ablation, calibrated=False).full_logits(opened)

    def circuit_logits(self, ablation: str | None = None) -> np.ndarray:
        """The circuit's logits [P, 2, V], with everything else ablated so (one draw of a random kind)."""
        return self._judge(ablation or self.ablation).logits(self.circuit.gates(self.model.config))

    def circuit_losses(self, ablation: str, draws: int = 1) -> np.ndarray:
        """The circuit's loss in nats [D, P] with everything else ablated so, in D draws of a random kind."""
        judge = self._judge(ablation, draws)
        logits = judge.logits(self.circuit.gates(self.model.config))
        losses_M = np.asarray(binary_loss(logits, judge.candidates))
        return losses_M.reshape(-1, len(self.pairs.tokens))  # items are draws, each of all pairs

    def margins(self, gates_C: Gates, held: bool = True) -> np.ndarray:
        """Right minus wrong logit [C, P, 2] under each of C sets of gates of nodes, [C, L, N] by site.

        held: whether the circuit's constants are kept, as in parts of it; other sets do without.
        """
        values = constant_ablated(self.ablation, self.means)
        if held:
            values = carried(self.model, self.circuit, self.means)
        run = _compiled_sets(self.model.config)
        packed, total = shortest(self.pairs, self.model.config.context), len(next(iter(gates_C.values())))
        found = []
        for first in range(0, total, SETS):
            count = min(SETS, total - first)
            chosen = {site: _padded(gate[first : first + count]) for site, gate in gates_C.items()}
            parts = [
                np.asarray(run(self.model.params, values, chosen, batch, count)) for batch in _batches(packed)
            ]
            found.append(np.concatenate(parts, axis=1)[:count, : len(self.pairs.tokens)])
        return np.concatenate(found)

    def margins_without(self, nodes_C: Gates) -> np.ndarray:
        """The full model's margins [C, P, 2] with each of C sets of nodes (1 in its mask) ablated alone."""
        rest = {site: 1 - np.asarray(mask, np.float32) for site, mask in nodes_C.items()}
        return self.margins(rest, held=False)

    def swapped_margins(self, nodes: Mapping[str, np.ndarray]) -> np.ndarray:
        """The full model's margins [P, 2] with `nodes` carrying what the other member gives them.

        nodes: masks [L, N] by site. Members are aligned at their last tokens; before the shorter one begins,
        nothing is swapped.
        """
        run = _compiled_swap(self.model.config)
        masks = {site: jnp.asarray(mask, bool) for site, mask in nodes.items()}
        found = [np.asarray(run(self.model.params, masks, batch)) for batch in _batches(self.pairs)]
        return np.concatenate(found)[: len(self.pairs.tokens)]

    def runs(self) -> Runs:
        """Both runs, and each with the other's values at kept nodes, on every member of the pairs."""
        run = _compiled_runs(self.model.config)
        masks = {site: jnp.asarray(gate, bool) for site, gate in self.nodes.items() if sites.in_layers(site)}
        found = []
        for batch in _batches(self.pairs):
            tokens = jnp.asarray(batch.tokens.reshape(-1, batch.tokens.shape[-1]))
            params, hooks = circuit_hooks(self.model, self.circuit, self.means, tokens)
            found.append(jax.device_get(run(self.model.params, params, hooks, masks, batch)))
        count = 2 * len(self.pairs.tokens)
        margins, values, patterns = zip(*found)
        return Runs(
            {name: np.concatenate([part[name] for part in margins])[:count] for name in margins[0]},
            {
                name: {
                    site: np.concatenate([part[name][site] for part in values], axis=1)[:, :count]
                    for site in masks
                }
                for name in values[0]
            },
            {
                name: np.concatenate([part[name] for part in patterns], axis=1)[:, :count]
                for name in patterns[0]
            },
        )

    @functools.cached_property
    def own_averages(self) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
        """What nodes carry in the circuit on average: over all tokens, and over the last ones."""
        gates, values = self.circuit.gates(self.model.config), carried(self.model, self.circuit, self.means)
        params, frozen = self.model.params, has_frozen_norms(self.circuit)
        return averages(self.model.config, params, gates, values, self.pairs, frozen)

    def constant_margins(self, nodes_C: Gates, constants: Gates) -> np.ndarray:
        """The circuit's margins [C, P, 2] with each of C sets of its nodes (a mask) carrying `constants`.

        Layers only: other nodes of the masks are left as they are.
        """
        config, total = self.model.config, len(next(iter(nodes_C.values())))
        batches = []
        for batch in _batches(self.pairs):
            hooks = circuit_hooks(self.model, self.circuit, self.means, jnp.asarray(batch.flat().tokens))
            batches.append((*hooks, batch))
        run, found = _compiled_constants(config), []
        names = tuple(site for site in nodes_C if sites.in_layers(site))
        constants = {site: constants[site] for site in names}
        for first in range(0, total, SETS):
            count = min(SETS, total - first)
            chosen = {site: _padded(nodes_C[site][first : first + count]) > 0 for site in names}
            parts = [np.asarray(run(*batch, chosen, constants, count)) for batch in batches]
            found.append(np.concatenate(parts, axis=1)[:count, : len(self.pairs.tokens)])
        return np.concatenate(found)

    def _judge(self, ablation: str, draws: int = 1, calibrated: bool = True):
        given = self.model, self.circuit, self.pairs, ablation
        return circuit_judge(*given, values=self.means, text=self.text, draws=draws, calibrated=calibrated)


def _batches(pairs: P) -> Iterator[P]:
    """BATCH pairs at a time; the last are filled up with copies of the last pair."""
    count = len(pairs.tokens)
    size = min(BATCH, count)
    for start in range(0, count, size):
        chosen = np.minimum(np.arange(start, start + size), count - 1)
        yield type(pairs)(*(array[chosen] for array in pairs))


def losses_of(margins: np.ndarray) -> np.ndarray:
    """The binary loss in nats [..., P] of margins [..., P, 2]."""
    return np.logaddexp(0, -margins).mean(axis=-1)


def _margins(logits_Bx2xV, candidates):
    two = jnp.take_along_axis(logits_Bx2xV, candidates, axis=-1)
    return two[..., 0] - two[..., 1]


def _padded(gates_C) -> np.ndarray:
    """Gates of at most SETS sets, filled up with zeros that are never run."""
    gates = np.asarray(gates_C, np.float32)
    return np.concatenate([gates, np.zeros((SETS - len(gates), *gates.shape[1:]), np.float32)])


@functools.cache
def _compiled_sets(config: ModelConfig):
    def run(params, values, gates_C, pairs, count):
        ablated = {site: values[site] for site in gates_C}

        def fill_in(i, found):
            gates = {site: gate[i] for site, gate in gates_C.items()}
            logits = last_logits(config, params, gates, ablated, pairs)
            return found.at[i].set(_margins(logits, pairs.candidates))

        return jax.lax.fori_loop(0, count, fill_in, jnp.zeros((SETS, *pairs.last.shape)))

    return jax.jit(run)


@functools.cache
def _compiled_swap(config: ModelConfig):
    def run(params, masks, pairs):
        tokens, last, _ = pairs.flat()
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
        logits = forward(config, params, tokens, Hooks(patches=patches), last)[0]
        return _margins(logits.reshape(*pairs.last.shape, -1), pairs.candidates)

    return jax.jit(run)


@functools.cache
def _compiled_runs(config: ModelConfig):
    def run(params, pruned_params, hooks, masks, pairs):
        tokens, last, _ = pairs.flat()
        capture = (*masks, sites.PATTERN)
        first = jnp.repeat(pairs.candidates[:, 0], 2, axis=0)  # the same two tokens for both members

        def of(params, hooks, capture=()):
            hooks = dataclasses.replace(hooks, capture=capture)
            logits, captured = forward(config, params, tokens, hooks, last)
            return _margins(logits, first), captured

        full, of_full = of(params, Hooks(), capture)
        pruned, of_pruned = of(pruned_params, hooks, capture)

        def with_values(captured):
            return {site: Patch(mask[:, None, None], captured[site]) for site, mask in masks.items()}

        into_full = of(params, Hooks(patches=with_values(of_pruned)))[0]
        into_pruned = of(pruned_params, dataclasses.replace(hooks, patches=with_values(of_full)))[0]
        margins = {"full": full, "pruned": pruned, "into full": into_full, "into pruned": into_pruned}

        def at_end(captured):
            place = last[None, :, None, None]
            return {site: jnp.take_along_axis(captured[site], place, axis=2)[:, :, 0] for site in masks}

        def from_end(captured):
            pattern_LxBxHxTxT = captured[sites.PATTERN]
            place = last[None, :, None, None, None]
            return jnp.take_along_axis(pattern_LxBxHxTxT, place, axis=3)[:, :, :, 0]

        both = {"full": of_full, "pruned": of_pruned}
        values, patterns = ({name: part(x) for name, x in both.items()} for part in (at_end, from_end))
        return margins, values, patterns

    return jax.jit(run)


@functools.cache
def _compiled_constants(config: ModelConfig):
    def run(params, hooks, pairs, masks_C, constants, count):
        tokens, last, _ = pairs.flat()

        def fill_in(i, found):
            patches = {
                site: Patch(mask[i][:, None, None], constants[site][:, None, None])
                for site, mask in masks_C.items()
            }
            logits = forward(config, params, tokens, dataclasses.replace(hooks, patches=patches), last)[0]
            margins = _margins(logits.reshape(*pairs.last.shape, -1), pairs.candidates)
            return found.at[i].set(margins)

        return jax.lax.fori_loop(0, count, fill_in, jnp.zeros((SETS, *pairs.last.shape)))

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


def places_of(nodes: Mapping[str, np.ndarray]) -> list[tuple]:
    """(site, *index) of every node whose mask is not 0."""
    return [(site, *place) for site, mask in nodes.items() for place in np.argwhere(np.asarray(mask) > 0)]


def inner(nodes: Mapping[str, np.ndarray], inverted: bool = False) -> dict[str, np.ndarray]:
    """The masks of `nodes` at the inner sites, or of all others there."""
    kept = {site: np.asarray(nodes[site]) > 0 for site in INNER_SITES if site in nodes}
    return {site: ~mask for site, mask in kept.items()} if inverted else kept
