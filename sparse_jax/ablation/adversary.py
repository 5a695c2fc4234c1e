"""The adversary: chooses how much of their own value closed nodes keep, to make the loss large."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from sparse_jax.ablation.draws import Ablated, Draws, is_one_of, partly_open
from sparse_jax.ablation.kinds import ADVERSARIAL
from sparse_jax.ablation.objective import pair_losses
from sparse_jax.circuits.gates import Gates
from sparse_jax.model.config import ModelConfig
from sparse_jax.model.forward import Params
from sparse_jax.tasks.packing import Pairs

# Projected ascent by the gradient's sign: from a share of 1/2, the ends of [0, 1] are reached in 3 steps.
STEPS, RATE = 8, 0.2


class How(NamedTuple):
    """How gates are run and judged, as a program is compiled for it; fields as in `Judge`."""

    config: ModelConfig
    kinds: tuple[str, ...]
    objective: str = "binary"
    frozen_norms: bool = False

    def losses(self, params: Params, gates: Gates, values: Gates, pairs: Pairs) -> jax.Array:
        """The loss [P] of every pair under the gates, where closed nodes carry `values`."""
        frozen = self.frozen_norms
        return pair_losses(self.config, params, gates, values, pairs, self.objective, frozen_norms=frozen)


def run_with(
    how: How, params: Params, gates: Gates, ablated: Ablated, pairs: Pairs, draws: Draws
) -> tuple[Gates, Gates]:
    """The gates and ablation values to run the pairs with, after an adversary's choice if there is one."""
    share = ablated.share
    if set(how.kinds) & set(ADVERSARIAL):

        def losses_of(share: Gates) -> jax.Array:
            return how.losses(params, partly_open(gates, share), ablated.values, pairs)

        share = worst_share(losses_of, how.kinds, share, draws)
    return partly_open(gates, share), ablated.values


def worst_share(
    losses_of: Callable[[Gates], jax.Array], kinds: tuple[str, ...], share: Gates, draws: Draws
) -> Gates:
    """The shares that an adversary chooses for the pairs of its kinds; those of other pairs stay.

    losses_of: the pairs' losses for given shares. "adversarial" chooses by node and prompt,
    "adversarial_shared" by node for all pairs of the call together.
    """
    repeats = jax.tree.leaves(share)[0].shape[-3] // len(draws.kind)
    kind_B = jnp.repeat(draws.kind, repeats)
    alone_B, together_B = (is_one_of((kind,), kinds, kind_B)[:, None, None] for kind in ADVERSARIAL)

    def step(_, share):
        gradients = jax.grad(lambda share: losses_of(share).sum())(share)

        def moved(share, gradient):
            common = jnp.where(together_B, gradient, 0).sum(axis=-3, keepdims=True)
            direction = jnp.sign(jnp.where(together_B, common, jnp.where(alone_B, gradient, 0)))
            return jnp.clip(share + RATE * direction, 0, 1)

        return jax.tree.map(moved, share, gradients)

    return jax.lax.stop_gradient(jax.lax.fori_loop(0, STEPS, step, dict(share)))
