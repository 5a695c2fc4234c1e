"""Losses of many variants of a set of gates in one compiled program, under one or several ablations."""

import dataclasses
import functools
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np

from sparse_jax.ablation import compiled
from sparse_jax.ablation.adversary import How
from sparse_jax.ablation.draws import Ablated, draw_pairs
from sparse_jax.ablation.items import Batch, Items
from sparse_jax.ablation.kept import Kept
from sparse_jax.ablation.kinds import (
    RESAMPLED,
    adversary_of,
    can_pack,
    is_constant,
    is_drawn,
    is_replaced,
    kinds_of,
)
from sparse_jax.ablation.objective import losses_of_logits
from sparse_jax.circuits.gates import Gates
from sparse_jax.circuits.narrowing import fitting_widths
from sparse_jax.inputs import require
from sparse_jax.model import sites
from sparse_jax.model.config import ModelConfig
from sparse_jax.model.forward import Params
from sparse_jax.model.narrow import Narrow
from sparse_jax.tasks.encode import EncodedPairs
from sparse_jax.tasks.metrics import Estimate
from sparse_jax.tasks.packing import shortest
from sparse_jax.trees import Array

# The largest inputs of one call: they bound the memory, and rows can be abandoned only between calls.
VARIANTS = 16
PAIRS = 8
# Pairs of a call that gives logits. An adversary that is shared chooses for those of one call together.
TOGETHER = 32


@dataclasses.dataclass(frozen=True)
class Judge:
    """Judges gates with a model, ablation values and the pairs of a split.

    Every loss is one of M items: all pairs of the split, under each kind of ablation (as often as there are
    `draws`, where it is random). With a constant ablation the items are the pairs.

    ablated: means by site, as `Hooks.ablated`. objective: a task loss of METHOD 5 by name, never negative.
    frozen_norms: as in PruneConfig. ablation: kinds joined with "+"; draws are fixed by `seed`. text: windows
    [W, T] of training text, for "resample_text". confidence: how many standard errors are added to a mean
    loss before it is compared with a target. constants: of nodes that carry one if they are closed, whatever
    the ablation (`constants.hold`). removal: whether open gates say what is ablated, not what is kept (of
    nodes only). label: what the progress of long searches is called; without one they show none.

    Raises InputError for a resampling of fewer than two pairs, and for text that is missing or shorter than
    the prompts.
    """

    config: ModelConfig
    params: Params
    ablated: Gates
    pairs: EncodedPairs
    objective: str = "binary"
    frozen_norms: bool = False
    ablation: str = "mean"
    draws: int = 1
    text: Array | None = None
    seed: int = 0
    confidence: float = 0.0
    label: str = ""
    order: np.ndarray | None = None
    constants: Gates = dataclasses.field(default_factory=dict)
    removal: bool = False

    def __post_init__(self) -> None:
        kinds = self.kinds
        if set(kinds) & set(RESAMPLED):
            require(
                len(self.pairs.tokens) > 1,
                "pairs",
                len(self.pairs.tokens),
                f"at least 2 with ablation {self.ablation!r}",
            )
        if "resample_text" in kinds:
            found = None if self.text is None else self.text.shape
            fits = found is not None and found[1] >= self.pairs.tokens.shape[-1]
            valid = f"windows of training text of at least {self.pairs.tokens.shape[-1]} tokens"
            require(fits, "text", found, valid)

    @functools.cached_property
    def kinds(self) -> tuple[str, ...]:
        """The kinds of ablation that gates are judged under."""
        return kinds_of("ablation", self.ablation)

    @functools.cached_property
    def items(self) -> Items:
        """Everything that is judged; the pairs with as few tokens as possible."""
        if self._drawn is not self:
            drawn = self._drawn.items
            return drawn if self.order is None else drawn.reordered(self.order)
        count = len(self.pairs.tokens)
        numbers = [self.draws if is_drawn(kind) else 1 for kind in self.kinds]
        each = [(kind, number) for kind, most in enumerate(numbers) for number in range(most)]
        rows = [(pair, *one) for one in each for pair in range(count)]
        pair_M, kind_M, number_M = np.array(rows, np.int32).T
        pairs = shortest(self.pairs, self.config.context, can_pack(self.kinds))
        chosen = type(pairs)(*(array[pair_M] for array in pairs))
        draws = []
        for number, kind in enumerate(self.kinds):
            own = kind_M == number
            draws.append(draw_pairs(kind, pairs, pair_M[own], number_M[own], self.seed, self.text))
        return Items(chosen, pair_M, kind_M, tuple(jax.device_get(draws)))

    @property
    def candidates(self) -> np.ndarray:
        """The right and wrong tokens [M, 2, 2] of every item."""
        return self.items.pairs.candidates

    def losses(self, gates: Gates) -> np.ndarray:
        """The loss [M] of every item under `gates`, in nats; without gates, of the full model."""
        nothing_closed = np.zeros((1, 2), np.int32)
        if gates:
            return self.variants(gates, {}, nothing_closed)[0]
        return self._plain.variants({}, {}, nothing_closed)[0][self.items.pair]

    def full_losses(self, opened: Gates) -> np.ndarray:
        """The loss [M] of every item in the full model.

        opened: gates that are all open, so that the program is the one that circuits' logits come from.
        `losses` would need one of full width, which no circuit that is run narrow is judged with.
        """
        logits = self.full_logits(opened)
        return np.asarray(losses_of_logits(logits, self.candidates, self.objective), np.float64)

    def full_logits(self, opened: Gates) -> np.ndarray:
        """The full model's logits [M, 2, V]; `opened` as in `full_losses`."""
        return self._plain.logits(opened)[self.items.pair]

    @functools.cached_property
    def _plain(self) -> "Judge":
        """With every pair once, which is enough where nothing is ablated."""
        kind = next(filter(is_constant, self.kinds), "mean")
        return dataclasses.replace(self, ablation=kind, draws=1, order=None, removal=False)

    def variants(
        self, gates: Gates, ranks: Gates, closed_Cx2: np.ndarray, limit: float = np.inf
    ) -> np.ndarray:
        """Losses [C, M] of variants of `gates`, in nats.

        Variant c additionally closes all units with a rank in [closed[c, 0], closed[c, 1]).
        ranks: whole numbers in the shapes of the gates; gates with a negative rank, or without one, keep
        their values. [k, n) leaves only the k best of n, [i, i + 1) all but number i, [0, m) all but the
        first m. Losses are never negative, so a row is abandoned as soon as the items so far prove a bound
        above `limit`; it is then set to inf, as it is for NaN.
        """
        self._make_room(_open_in_any(gates, ranks, closed_Cx2))
        gates = {key: jnp.asarray(gate, jnp.float32) for key, gate in gates.items()}
        untouched = {key: np.full(gate.shape, -1, np.int32) for key, gate in gates.items()}
        # on the devices once, not for each batch
        ranks = jax.device_put(
            {**untouched, **{key: np.asarray(rank, np.int32) for key, rank in ranks.items()}}
        )
        losses = np.zeros((len(closed_Cx2), len(self.items.kind)))
        left = np.arange(len(closed_Cx2))
        for batch in self.items.batches(PAIRS):
            found = self._run(gates, ranks, closed_Cx2[left], batch)[:, : len(batch.places)]
            losses[np.ix_(left, batch.places)] = np.where(np.isnan(found), np.inf, found)
            hopeless = self._least_bound(losses[left]) > limit
            losses[left[hopeless]] = np.inf
            left = left[~hopeless]
        return losses

    def bound(self, losses_CxM: np.ndarray) -> np.ndarray:
        """What is compared with a target, for each row: mean + confidence * its error, of the worst kind."""
        return self._bounds(*self._figures(losses_CxM)).max(axis=1)

    def _least_bound(self, losses_CxM: np.ndarray) -> np.ndarray:
        """A number [C] that `bound` cannot be below, whatever the losses are that are still 0.

        The bound of one kind is a convex function of the losses. So if its derivative by none of those that
        are 0 is negative, larger ones cannot lower it. With n pairs that is certain where error * (n - 1) is
        at least confidence * mean; elsewhere only the mean is certain.
        """
        means, errors = (np.nan_to_num(figures, nan=0.0) for figures in self._figures(losses_CxM))
        grows = errors * (len(self.pairs.tokens) - 1) >= self.confidence * means
        return np.where(grows, self._bounds(means, errors), means).max(axis=1)

    def summary(self, losses_M: np.ndarray) -> Estimate:
        """The mean loss over pairs and its standard error, of the kind with the largest bound."""
        means, errors = self._figures(losses_M[None])
        worst = int(np.argmax(self._bounds(means, errors)[0]))
        return Estimate(float(means[0, worst]), float(errors[0, worst]))

    def by_kind(self, losses_M: np.ndarray) -> dict[str, Estimate]:
        """The mean loss over pairs and its standard error (NaN for a single pair), for every kind."""
        means, errors = self._figures(losses_M[None])
        return {kind: Estimate(float(m), float(e)) for kind, m, e in zip(self.kinds, means[0], errors[0])}

    def _figures(self, losses_CxM: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Means [C, K] over the pairs under each of K kinds, and their standard errors."""
        found = []
        for places_PxD in self._places:
            losses_CxP = losses_CxM[:, places_PxD].mean(axis=-1)
            n_pairs = losses_CxP.shape[1]
            errors_C = np.full(len(losses_CxP), np.nan)
            if n_pairs > 1:
                with np.errstate(invalid="ignore"):  # of a row that was abandoned
                    errors_C = losses_CxP.std(axis=1, ddof=1) / np.sqrt(n_pairs)
            found.append((losses_CxP.mean(axis=1), errors_C))
        means, errors = (np.stack(columns, axis=1) for columns in zip(*found))
        return means, errors

    def _bounds(self, means: np.ndarray, errors: np.ndarray) -> np.ndarray:
        return means + (self.confidence * np.nan_to_num(errors) if self.confidence else 0.0)

    @functools.cached_property
    def _places(self) -> list[np.ndarray]:
        """For each kind, where the items [P, D] of its pairs and draws stand."""
        pair_M, kind_M = self.items.pair, self.items.kind
        found = []
        for kind in range(len(self.kinds)):
            own = np.flatnonzero(kind_M == kind)
            found.append(own[np.argsort(pair_M[own], kind="stable")].reshape(len(self.pairs.tokens), -1))
        return found

    def hardest_first(self, losses_M: np.ndarray) -> tuple["Judge", np.ndarray]:
        """The same items by falling loss, so that failing variants are abandoned sooner, and these losses.

        The kinds follow each other, that with the largest bound first.
        """
        bound_K = self._bounds(*self._figures(losses_M[None]))[0]
        falling = np.lexsort((-losses_M, -bound_K[self.items.kind]))
        order = falling if self.order is None else self.order[falling]
        return self._alike(order=order), losses_M[falling]

    def holding(self, constants: Gates) -> "Judge":
        """With these `constants`; itself if they are its own."""
        same = constants.keys() == self.constants.keys() and all(
            np.array_equal(value, self.constants[site], equal_nan=True) for site, value in constants.items()
        )
        return self if same else self._alike(constants=constants)

    def _alike(self, **changes) -> "Judge":
        """With another order or other constants, so that nothing need be drawn again."""
        other = dataclasses.replace(self, **changes)
        vars(other)["_drawn"] = self._drawn
        return other

    @functools.cached_property
    def _drawn(self) -> "Judge":
        """With its items in the order that they are drawn in, and without constants."""
        if self.order is None and not self.constants:
            return self
        return dataclasses.replace(self, order=None, constants={})

    def logits(self, gates: Gates) -> np.ndarray:
        """The logits [M, 2, V] after the last token of every item's members, under `gates`."""
        gates = {key: jnp.asarray(gate, jnp.float32) for key, gate in gates.items()}
        found = np.zeros((len(self.items.kind), 2, self.config.vocab_size), np.float32)
        for batch in self.items.batches(TOGETHER):
            batch = batch.lengthened(self.config.context)
            run = compiled.logits(self._how(gates, batch.kind))
            logits = run(self.params, gates, batch.pairs, self._carried(gates, batch))
            found[batch.places] = np.asarray(logits)[: len(batch.places)]
        return found

    def gradients(self, gates: Gates) -> dict[str, np.ndarray]:
        """The gradient of the mean loss of the first PAIRS items of each kind, in the gates' shapes."""
        gates = {key: jnp.asarray(gate, jnp.float32) for key, gate in gates.items()}
        found = []
        for kind in range(len(self.kinds)):
            batch = next(batch for batch in self.items.batches(PAIRS) if batch.kind == kind)
            run = compiled.gradients(self._how(gates, kind))
            found.append(run(gates, self.params, batch.pairs, self._carried(gates, batch)))
        return jax.tree.map(lambda *each: np.mean(each, axis=0), *jax.device_get(found))

    def _how(self, gates: Gates, kind: int) -> How:
        # the full model has nothing to ablate
        adversary = adversary_of(self.kinds[kind]) if gates else ""
        return How(self.config, adversary, self.objective, self.frozen_norms, self.removal)

    def _carried(self, gates: Gates, batch: Batch) -> Ablated:
        """What closed nodes carry in a batch, the same for all gates."""
        if not gates:
            return Ablated({}, {})
        draw = compiled.drawing(self.config, self.kinds[batch.kind])
        given = self.params, self.ablated, self.constants, batch.pairs, batch.draws
        if len(batch.pairs.tokens) > PAIRS:
            return draw(*given)  # batches of logits are run only once
        return self._kept.get(("carried", batch.key), lambda: draw(*given))

    def _narrow(self, carried: Ablated, batch: Batch) -> Narrow | None:
        """The model of the nodes that there is room for, in a batch; None for the full width."""
        kind, kept = self.kinds[batch.kind], self._kept
        # only what does not depend on the open nodes can be folded into biases
        if kept.widths is None or not is_replaced(kind):
            return None
        of_batch = not is_constant(kind)
        fold = compiled.narrowing(self.config, kept.widths, of_batch)
        given = self.params, carried.values, kept.alive, batch.pairs
        key = "narrow", batch.key if of_batch else batch.kind
        return kept.get(key, lambda: fold(*given), of_batch)

    def _make_room(self, alive: Mapping[str, np.ndarray]) -> None:
        """Narrow models have to hold what is `alive`; those of before are kept if it is among their nodes."""
        nodes_alone = set(sites.LAYER_SITES) <= set(alive) and not any(map(sites.is_edge, alive))
        is_narrow = nodes_alone and not self.removal
        self._kept.make_room(fitting_widths(self.config, alive) if is_narrow else None, alive)

    @property
    def together(self) -> int:
        """How many variants are run side by side: one on a CPU, where more are no faster."""
        return 1 if jax.default_backend() == "cpu" else VARIANTS

    @functools.cached_property
    def _kept(self) -> Kept:
        return Kept()

    def _run(self, gates: Gates, ranks: Gates, closed_Cx2: np.ndarray, batch: Batch) -> np.ndarray:
        """The losses of the variants on a batch; there is room for what is open in any of them."""
        run = compiled.variants(self._how(gates, batch.kind), self.together)
        carried = self._carried(gates, batch)
        narrow = self._narrow(carried, batch)
        found = [np.zeros((0, len(batch.pairs.tokens)))]
        for start in range(0, len(closed_Cx2), VARIANTS):
            part = np.asarray(closed_Cx2[start : start + VARIANTS], np.int32)
            padded = np.concatenate([part, np.zeros((VARIANTS - len(part), 2), np.int32)])
            losses = run(self.params, gates, ranks, batch.pairs, carried, narrow, padded, len(part))
            found.append(np.asarray(losses, np.float64)[: len(part)])
        return np.concatenate(found)


def _open_in_any(gates: Gates, ranks: Gates, closed_Cx2: np.ndarray) -> dict[str, np.ndarray]:
    """What is open in at least one of the variants, in the gates' shapes."""
    found = {key: np.asarray(gate) > 0 for key, gate in gates.items()}
    if len(closed_Cx2):
        start, stop = closed_Cx2[:, 0].max(), closed_Cx2[:, 1].min()
        for key, rank in ranks.items():
            found[key] &= ~((start <= np.asarray(rank)) & (np.asarray(rank) < stop))
    return found
