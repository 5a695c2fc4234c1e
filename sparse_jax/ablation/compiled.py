"""What a judge compiles: what closed nodes carry in a batch, and what the gated model makes of it."""

import functools

import jax
import jax.numpy as jnp

from sparse_jax.ablation.adversary import How, attacked
from sparse_jax.ablation.constants import hold
from sparse_jax.ablation.draws import Ablated, draw_ablated
from sparse_jax.ablation.kinds import RESAMPLED
from sparse_jax.ablation.objective import last_logits
from sparse_jax.circuits.gates import Gates, only_between_open
from sparse_jax.circuits.narrowing import Widths, narrow_model
from sparse_jax.model.config import ModelConfig
from sparse_jax.model.forward import Params
from sparse_jax.tasks.packing import Pairs, positions_of


def drawing(config: ModelConfig, kind: str):
    """What closed nodes carry in a batch of pairs, as `Ablated`; the same whatever the gates are."""
    # how they are resampled is said by their draws
    return _drawing(config, RESAMPLED[0] if kind in RESAMPLED else kind)


@functools.cache
def _drawing(config: ModelConfig, kind: str):
    def run(params, means, constants, pairs, draws):
        return hold(draw_ablated(config, params, kind, means, pairs, draws), constants)

    return jax.jit(run)


@functools.cache
def narrowing(config: ModelConfig, widths: Widths, of_tokens: bool):
    """The narrow model of the nodes `alive`, where those left out carry `values`, one per token or not."""

    def run(params, values, alive, pairs):
        visible = positions_of(pairs).visible if of_tokens else None
        return narrow_model(config, params, values, alive, widths, visible)

    return jax.jit(run)


@functools.cache
def variants(how: How, together: int):
    """Losses [C, P] of variants, each with other gates closed (`Judge.variants`), of which `count` are run.

    together: how many are run side by side; 1 on a CPU, where more are no faster. narrow: the model that is
    run, None for the full width.
    """

    def losses_of(closed_2, params, ablated, gates, ranks, pairs, narrow):
        chosen = {key: (closed_2[0] <= rank) & (rank < closed_2[1]) for key, rank in ranks.items()}
        opened = {key: jnp.where(chosen[key], 0.0, gate) for key, gate in gates.items()}
        gates, worst = _as_run(how, params, opened, ablated, pairs)
        return how.losses(params, gates, worst, pairs, narrow)

    def run(params, gates, ranks, pairs, ablated, narrow, closed_Cx2, count):
        def one(row):
            return losses_of(row, params, ablated, gates, ranks, pairs, narrow)

        def fill_in(i, found_CxP):
            rows = jax.lax.dynamic_slice_in_dim(closed_Cx2, i * together, together)
            # without vmap for one: tracing takes half as long
            losses = one(rows[0])[None] if together == 1 else jax.vmap(one)(rows)
            return jax.lax.dynamic_update_slice_in_dim(found_CxP, losses, i * together, axis=0)

        # as many rounds as there are variants to run: padding rows of the array cost nothing
        start = jnp.zeros((len(closed_Cx2), len(pairs.tokens)))
        return jax.lax.fori_loop(0, -(-count // together), fill_in, start)

    return jax.jit(run)


@functools.cache
def logits(how: How):
    """The logits [P, 2, V] of both members of each pair."""

    def run(params, gates, pairs, ablated):
        gates, worst = _as_run(how, params, gates, ablated, pairs)
        frozen = how.frozen_norms
        return last_logits(
            how.config, params, gates, worst.values, pairs, frozen_norms=frozen, share=worst.share
        )

    return jax.jit(run)


@functools.cache
def gradients(how: How):
    """The gradient of the mean loss by the gates."""

    def mean_loss(gates, params, pairs, ablated):
        gates, worst = _as_run(how, params, gates, ablated, pairs)
        return how.losses(params, gates, worst, pairs).mean()

    return jax.jit(jax.grad(mean_loss))


def _as_run(how: How, params: Params, gates: Gates, ablated: Ablated, pairs: Pairs) -> tuple[Gates, Ablated]:
    """The gates that the model is run with, and what closed nodes carry once an adversary has chosen."""
    gates = how.as_run(only_between_open(gates))
    return gates, attacked(how, params, gates, ablated, pairs)
