"""Losses of many variants of a set of gates, in one compiled program."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np

from sparse_jax.ablation.objective import last_logits, pair_losses
from sparse_jax.circuits.gates import Gates, only_between_open
from sparse_jax.model.config import ModelConfig
from sparse_jax.model.forward import Params
from sparse_jax.tasks.encode import EncodedPairs
from sparse_jax.tasks.packing import Pairs, shortest

# The largest inputs of one call: they bound the memory, and rows can be abandoned only between calls.
VARIANTS = 16
PAIRS = 8


@dataclasses.dataclass(frozen=True)
class Judge:
    """Judges gates with a model, ablation values and the pairs of a split.

    ablated: means by site, as `Hooks.ablated`. objective: a task loss of METHOD 5 by name, never negative.
    frozen_norms: as in PruneConfig.
    """

    config: ModelConfig
    params: Params
    ablated: Gates
    pairs: EncodedPairs
    objective: str = "binary"
    frozen_norms: bool = False

    def losses(self, gates: Gates) -> np.ndarray:
        """The loss [P] of every pair under `gates`, in nats."""
        return self.variants(gates, {}, np.zeros((1, 2), np.int32))[0]

    def variants(
        self, gates: Gates, ranks: Gates, closed_Cx2: np.ndarray, limit: float = np.inf
    ) -> np.ndarray:
        """Losses [C, P] of variants of `gates`, in nats.

        Variant c additionally closes all units with a rank in [closed[c, 0], closed[c, 1]).
        ranks: whole numbers in the shapes of the gates; gates with a negative rank, or without one, keep
        their values. [k, n) leaves only the k best of n, [i, i + 1) all but number i, [0, m) all but the
        first m. Losses are never negative, so a row is abandoned as soon as the pairs so far prove a mean
        above `limit`; it is then set to inf, as it is for NaN.
        """
        gates = {key: jnp.asarray(gate, jnp.float32) for key, gate in gates.items()}
        untouched = {key: jnp.full(gate.shape, -1, jnp.int32) for key, gate in gates.items()}
        ranks = {**untouched, **{key: jnp.asarray(rank, jnp.int32) for key, rank in ranks.items()}}
        n_pairs = len(self.pairs.tokens)
        losses = np.zeros((len(closed_Cx2), n_pairs))
        alive = np.arange(len(closed_Cx2))
        for start, batch in self._batches():
            stop = min(start + PAIRS, n_pairs)
            found = self._run(gates, ranks, closed_Cx2[alive], batch)[:, : stop - start]
            losses[alive, start:stop] = np.where(np.isnan(found), np.inf, found)
            hopeless = losses[alive].sum(axis=1) > limit * n_pairs
            losses[alive[hopeless]] = np.inf
            alive = alive[~hopeless]
        return losses

    def hardest_first(self, gates: Gates) -> "Judge":
        """The same pairs by falling loss under `gates`, so that failing variants are abandoned sooner."""
        order = np.argsort(-self.losses(gates), kind="stable")
        return dataclasses.replace(self, pairs=EncodedPairs(*(array[order] for array in self.pairs)))

    def logits(self, gates: Gates) -> np.ndarray:
        """The logits [P, 2, V] after the last token of every pair's members, under `gates`."""
        gates = {key: jnp.asarray(gate, jnp.float32) for key, gate in gates.items()}
        run = _compiled_logits(self.config, self.frozen_norms)
        found = [np.asarray(run(self.params, self.ablated, gates, batch)) for _, batch in self._batches()]
        return np.concatenate(found)[: len(self.pairs.tokens)]

    def gradients(self, gates: Gates) -> dict[str, np.ndarray]:
        """The gradient of the mean loss of the first PAIRS pairs, in the gates' shapes."""
        gates = {key: jnp.asarray(gate, jnp.float32) for key, gate in gates.items()}
        batch = next(self._batches())[1]
        gradients = _compiled_gradients(self.config, self.objective, self.frozen_norms)
        return jax.device_get(gradients(gates, self.params, self.ablated, batch))

    def _batches(self):
        """Batches of PAIRS pairs with the number of the first; the last is padded with copies of a pair."""
        n_pairs = len(self.pairs.tokens)
        size = min(PAIRS, n_pairs)
        for start in range(0, n_pairs, size):
            chosen = np.minimum(np.arange(start, start + size), n_pairs - 1)
            yield start, type(self._short_pairs)(*(array[chosen] for array in self._short_pairs))

    @functools.cached_property
    def _short_pairs(self) -> Pairs:
        return shortest(self.pairs, self.config.context)

    def _run(self, gates: Gates, ranks: Gates, closed_Cx2: np.ndarray, batch: Pairs) -> np.ndarray:
        together = 1 if jax.default_backend() == "cpu" else VARIANTS
        run = _compiled(self.config, self.objective, self.frozen_norms, together)
        found = [np.zeros((0, len(batch.tokens)))]
        for start in range(0, len(closed_Cx2), VARIANTS):
            part = np.asarray(closed_Cx2[start : start + VARIANTS], np.int32)
            padded = np.concatenate([part, np.zeros((VARIANTS - len(part), 2), np.int32)])
            ablated = self.ablated if gates else {}
            losses = run(self.params, ablated, gates, ranks, batch, padded, len(part))
            found.append(np.asarray(losses, np.float64)[: len(part)])
        return np.concatenate(found)


@functools.cache
def _compiled(config: ModelConfig, objective: str, frozen_norms: bool, together: int):
    """The program; `together` variants are run side by side: 1 on a CPU, where that is no faster."""

    def losses_of(closed_2, params, ablated, gates, ranks, pairs):
        chosen = {key: (closed_2[0] <= rank) & (rank < closed_2[1]) for key, rank in ranks.items()}
        opened = {key: jnp.where(chosen[key], 0.0, gate) for key, gate in gates.items()}
        gates = only_between_open(opened)
        return pair_losses(config, params, gates, ablated, pairs, objective, frozen_norms=frozen_norms)

    def run(params, ablated, gates, ranks, pairs, closed_Cx2, count):
        def fill_in(i, found_CxP):
            rows = jax.lax.dynamic_slice_in_dim(closed_Cx2, i * together, together)
            losses = jax.vmap(lambda row: losses_of(row, params, ablated, gates, ranks, pairs))(rows)
            return jax.lax.dynamic_update_slice_in_dim(found_CxP, losses, i * together, axis=0)

        # as many rounds as there are variants to run: padding rows of the array cost nothing
        start = jnp.zeros((len(closed_Cx2), len(pairs.tokens)))
        return jax.lax.fori_loop(0, -(-count // together), fill_in, start)

    return jax.jit(run)


@functools.cache
def _compiled_logits(config: ModelConfig, frozen_norms: bool):
    def run(params, ablated, gates, pairs):
        return last_logits(config, params, only_between_open(gates), ablated, pairs, frozen_norms)

    return jax.jit(run)


@functools.cache
def _compiled_gradients(config: ModelConfig, objective: str, frozen_norms: bool):
    def mean_loss(gates, params, ablated, pairs):
        gates = only_between_open(gates)
        losses = pair_losses(config, params, gates, ablated, pairs, objective, frozen_norms=frozen_norms)
        return losses.mean()

    return jax.jit(jax.grad(mean_loss))
