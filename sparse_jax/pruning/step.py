"""One lane of gate optimization: a pure initial state and a pure step, ready for vmap."""

import operator
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import struct

from sparse_jax.ablation.adversary import How, attacked
from sparse_jax.ablation.draws import draw_ablated, draw_pairs, joined
from sparse_jax.ablation.kinds import adversary_of
from sparse_jax.ablation.objective import losses_of_logits, run_gated
from sparse_jax.ablation.roles import role_error
from sparse_jax.circuits.gates import Gates, count
from sparse_jax.model.config import ModelConfig
from sparse_jax.model.forward import Params
from sparse_jax.model.narrow import Narrow
from sparse_jax.model.sites import LAYER_SITES
from sparse_jax.pruning.config import Hyperparameters, PruneConfig
from sparse_jax.pruning.logits import initial_logits, open_gates, sampled_gates
from sparse_jax.tasks.packing import Pairs
from sparse_jax.trees import Array

LOGIT_BOUND = 1.0


@struct.dataclass
class Shared:
    """What all lanes share: the parameters, the mean of every node, and the pairs [K, P, ...] of K tasks.

    full: the full model's log-probabilities [K, P, 2, V]; None if the objective does not need them. text:
    windows [W, T] of training text, for resampling from it.
    """

    params: Params
    means: Gates
    tasks: Pairs
    full: jax.Array | None = None
    text: jax.Array | None = None


@struct.dataclass
class Lane:
    """The definition of one pruning run (R lanes: leading axis R).

    task: index of one of the K tasks. seed: for the initial logits, the order of pairs and random ablation
    values.
    eligible: 0/1 by gate, which ones are trained; None for all. fixed: the values of the other gates.
    """

    task: Array
    seed: Array
    hyper: Hyperparameters
    eligible: Gates | None = None
    fixed: Gates = struct.field(default_factory=dict)


@struct.dataclass
class LaneState:
    """The state of a pruning run between steps: gate logits and their moments."""

    step: jax.Array
    logits: Gates
    opt_state: optax.OptState


def new_lane(shapes: Mapping[str, tuple[int, ...]], lane: Lane) -> LaneState:
    """The state before the first step, with logits of the given shapes."""
    logits = initial_logits(shapes, _key(lane, 0), lane.hyper.init_mean, lane.hyper.init_scale)
    return LaneState(jnp.int32(0), logits, _optimizer(lane.hyper).init(logits))


def lane_step(
    config: ModelConfig,
    prune: PruneConfig,
    shared: Shared,
    lane: Lane,
    state: LaneState,
    narrow: Narrow | None = None,
) -> tuple[LaneState, dict[str, jax.Array]]:
    """One update of the gate logits on `pairs_per_step` of the P training pairs of the lane's task.

    The loss is the mean task loss plus k_coef times the (expected) number of open gates, plus role_coef times
    the unexplained variance of kept nodes; only the gate logits get gradients (METHOD 6), and logits that are
    not eligible keep their values. The kinds of ablation share the pairs of a step. With `narrow`, nodes that
    it leaves out are not computed; all of them must be closed. Returns the new state and {"loss", "open"}
    from before the update. The loss is also NaN if logits are NaN, since these would look like closed gates.
    """
    hyper, params, kinds = lane.hyper, shared.params, prune.kinds
    rows = _rows(lane, len(jax.tree.leaves(shared.tasks)[0][0]), prune.pairs_per_step, state.step)
    batch, full = _batch((shared.tasks, shared.full), rows, lane)
    every = jax.tree.map(lambda array: array[lane.task], shared.tasks)
    seed = jax.random.bits(_key(lane, 2), dtype=jnp.uint32)
    # each kind ablates its own part of the batch, so none pays for the donors or the adversary of another
    settings = prune.judged_by, prune.frozen_norms, prune.is_removal
    hows = [How(config, adversary_of(kind), *settings) for kind in kinds]
    parts = np.array_split(np.arange(len(rows)), len(kinds))
    groups = [jax.tree.map(operator.itemgetter(slice(part[0], part[-1] + 1)), batch) for part in parts]
    drawn = []
    for kind, part, group in zip(kinds, parts, groups):
        draws = draw_pairs(kind, every, rows[part], jnp.full(len(part), state.step), seed, shared.text)
        drawn.append(draw_ablated(config, params, kind, shared.means, group, draws))
    watched = LAYER_SITES if prune.role_coef else ()
    natural = run_gated(config, params, {}, {}, batch, capture=watched)[1] if watched else {}

    def loss_of(logits: Gates):
        trained, chances = lane_gates(logits, lane, prune, hyper.temperature, state.step)
        gates = hows[0].as_run({**lane.fixed, **trained})
        ablated = joined(
            [attacked(how, params, gates, *one) for how, *one in zip(hows, drawn, groups)], groups
        )
        values, share = ablated
        found, captured = run_gated(
            config, params, gates, values, batch, prune.frozen_norms, narrow, share, watched
        )
        loss = losses_of_logits(found, batch.candidates, prune.objective, full).mean()
        is_open = count(chances if lane.eligible is None else _product(chances, lane.eligible))
        total = loss + hyper.k_coef * is_open
        if watched:
            total += prune.role_coef * role_error(gates, captured, natural, batch)
        return total, {"loss": loss, "open": is_open}

    gradients, metrics = jax.grad(loss_of, has_aux=True)(state.logits)
    updates, opt_state = _optimizer(hyper).update(gradients, state.opt_state, state.logits)
    if lane.eligible is not None:
        updates = _product(updates, lane.eligible)
    rate = -_learning_rate(prune, hyper, state.step)
    is_broken = jnp.isnan(sum(tau.sum() for tau in state.logits.values()))
    metrics["loss"] = jnp.where(is_broken, jnp.nan, metrics["loss"])
    logits = jax.tree.map(
        lambda tau, update: jnp.clip(tau + rate * update, -LOGIT_BOUND, LOGIT_BOUND), state.logits, updates
    )
    return LaneState(state.step + 1, logits, opt_state), metrics


def lane_gates(
    logits: Gates, lane: Lane, prune: PruneConfig, temperature: float | Array, step: jax.Array
) -> tuple[Gates, Gates]:
    """The gates of a lane's logits, and the probability that each is open (the gate itself, for a step).

    Gates that are not eligible are taken from `lane.fixed`, or open.
    """
    if prune.gate == "step":
        gates = chances = open_gates(logits, temperature, prune.tied_qk)
    else:
        noise = jax.random.fold_in(_key(lane, 3), step)
        gates, chances = sampled_gates(logits, temperature, noise, prune.tied_qk)
    if lane.eligible is None:
        return gates, chances
    kept = {
        name: jnp.where(lane.eligible[name] > 0, gate, lane.fixed.get(name, 1.0))
        for name, gate in gates.items()
    }
    return kept, chances


def _product(gates: Gates, eligible: Gates) -> Gates:
    return {name: gate * eligible[name] for name, gate in gates.items()}


def _optimizer(hyper: Hyperparameters) -> optax.GradientTransformation:
    """AdamW without its learning rate, after clipping the global norm."""
    return optax.chain(
        optax.clip_by_global_norm(hyper.gradient_clip),
        optax.scale_by_adam(b1=0.9, b2=hyper.b2),
        optax.add_decayed_weights(hyper.weight_decay),
    )


def _learning_rate(prune: PruneConfig, hyper: Hyperparameters, step: jax.Array) -> Array:
    """A linear decay from 1 to 1/steps, times a linear warm-up."""
    progress = (step + 1) / prune.steps
    warm = jnp.minimum(1.0, progress / jnp.maximum(hyper.warmup, 1 / prune.steps))
    return hyper.learning_rate * warm * (1 - step / prune.steps)


def _key(lane: Lane, purpose: int) -> jax.Array:
    """A random key of the lane.

    purpose: 0 initial logits, 1 order of the pairs, 2 ablation values, 3 the noise of gates.
    """
    key = jax.random.key(lane.seed)
    return jax.random.split(key, 3)[purpose] if purpose < 3 else jax.random.fold_in(key, purpose)


def _batch(tasks, rows: jax.Array, lane: Lane):
    """The pairs with the indices `rows` of the lane's task, from every array [K, P, ...] of `tasks`."""
    return jax.tree.map(lambda array: array[lane.task, rows], tasks)


def _rows(lane: Lane, n_pairs: int, size: int, step: jax.Array) -> jax.Array:
    """The indices of the next `size` of `n_pairs` pairs, in a shuffled pass over them.

    An incomplete last batch of a pass is dropped.
    """
    batches = n_pairs // size
    epoch, place = step // batches, step % batches
    order = jax.random.permutation(jax.random.fold_in(_key(lane, 1), epoch), n_pairs)
    return jax.lax.dynamic_slice_in_dim(order, place * size, size)
