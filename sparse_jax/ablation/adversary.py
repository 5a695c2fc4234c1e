"""The adversary: chooses how much of their own value closed nodes keep, to make the loss large."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from sparse_jax.ablation.draws import Ablated
from sparse_jax.ablation.objective import pair_losses
from sparse_jax.circuits.gates import Gates
from sparse_jax.model.config import ModelConfig
from sparse_jax.model.forward import Params
from sparse_jax.model.narrow import Narrow
from sparse_jax.tasks.packing import Pairs

# Projected ascent by the gradient's sign: from a share of 1/2, the ends of [0, 1] are reached in 3 steps.
STEPS, RATE = 8, 0.2


class How(NamedTuple):
    """How gates are run and judged, as a program is compiled for it; fields as in `Judge`.

    adversary: the kind of ablation if it has one, else "": other kinds differ in what they carry alone.
    removal: whether open gates (of nodes only) say what is ablated, not what is kept.
    """

    config: ModelConfig
    adversary: str = ""
    objective: str = "binary"
    frozen_norms: bool = False
    removal: bool = False

    def as_run(self, gates: Gates) -> Gates:
        """The gates that the model is run with."""
        return {site: 1 - gate for site, gate in gates.items()} if self.removal else gates

    def losses(
        self, params: Params, gates: Gates, ablated: Ablated, pairs: Pairs, narrow: Narrow | None = None
    ) -> jax.Array:
        """The loss [P] of every pair under the gates, where closed nodes are `ablated`.

        With `narrow` only its nodes are computed.
        """
        given = self.config, params, gates, ablated.values, pairs, self.objective
        return pair_losses(*given, frozen_norms=self.frozen_norms, narrow=narrow, share=ablated.share)


def attacked(how: How, params: Params, gates: Gates, ablated: Ablated, pairs: Pairs) -> Ablated:
    """`ablated` after the adversary's choice, if there is an adversary."""
    if not how.adversary:
        return ablated

    # its choice is not differentiated, which would need second derivatives
    gates = jax.lax.stop_gradient(gates)

    def losses_of(share: Gates) -> jax.Array:
        return how.losses(params, gates, ablated._replace(share=share), pairs)

    return ablated._replace(share=worst_share(losses_of, how.adversary, ablated.share))


def worst_share(losses_of: Callable[[Gates], jax.Array], kind: str, share: Gates) -> Gates:
    """The shares that an adversary chooses, beginning with `share`.

    losses_of: the pairs' losses for given shares. "adversarial" chooses by node and prompt,
    "adversarial_shared" by node for all pairs of the call together.
    """

    def step(_, share):
        gradients = jax.grad(lambda share: losses_of(share).sum())(share)

        def moved(share, gradient):
            if kind == "adversarial_shared":
                gradient = gradient.sum(axis=-3, keepdims=True)
            return jnp.clip(share + RATE * jnp.sign(gradient), 0, 1)

        return jax.tree.map(moved, share, gradients)

    return jax.lax.stop_gradient(jax.lax.fori_loop(0, STEPS, step, dict(share)))
