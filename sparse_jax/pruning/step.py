"""One lane of gate optimization: a pure initial state and a pure step, ready for vmap."""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
import optax
from flax import struct

from sparse_jax.ablation.kinds import draw_ablated
from sparse_jax.ablation.objective import pair_losses
from sparse_jax.circuits.gates import Gates, count
from sparse_jax.model.config import ModelConfig
from sparse_jax.model.forward import Params
from sparse_jax.model.narrow import Narrow
from sparse_jax.pruning.config import Hyperparameters, PruneConfig
from sparse_jax.pruning.logits import initial_logits, open_gates
from sparse_jax.tasks.packing import Pairs
from sparse_jax.trees import Array

LOGIT_BOUND = 1.0


@struct.dataclass
class Shared:
    """What all lanes share: the parameters, the mean of every node, and the pairs [K, P, ...] of K tasks.

    full: the full model's log-probabilities [K, P, 2, V]; None if the objective does not need them.
    """

    params: Params
    means: Gates
    tasks: Pairs
    full: jax.Array | None = None


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

    The loss is the mean task loss plus k_coef times the number of open gates; only the gate logits get
    gradients (METHOD 6), and logits that are not eligible keep their values. With `narrow`, nodes that it
    leaves out are not computed; all of them must be closed. Returns the new state and {"loss", "open"} from
    before the update. The loss is also NaN if logits are NaN, since these would look like closed gates.
    """
    hyper = lane.hyper
    batch, full = _batch((shared.tasks, shared.full), prune.pairs_per_step, lane, state.step)
    draw_key = jax.random.fold_in(_key(lane, 2), state.step)
    ablated = draw_ablated(config, shared.params, prune.ablation, shared.means, batch, draw_key)

    def loss_of(logits: Gates):
        trained = lane_gates(logits, lane, hyper.temperature, prune.tied_qk)
        gates = {**lane.fixed, **trained}
        judged_by = prune.objective, full, prune.frozen_norms
        loss = pair_losses(config, shared.params, gates, ablated, batch, *judged_by, narrow).mean()
        opened = count(trained if lane.eligible is None else _product(trained, lane.eligible))
        return loss + hyper.k_coef * opened, {"loss": loss, "open": opened}

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


def lane_gates(logits: Gates, lane: Lane, temperature: float | Array, tied_qk: bool) -> Gates:
    """The gates of a lane's logits; gates that are not eligible are taken from `lane.fixed`, or open."""
    gates = open_gates(logits, temperature, tied_qk)
    if lane.eligible is None:
        return gates
    return {
        name: jnp.where(lane.eligible[name] > 0, gate, lane.fixed.get(name, 1.0))
        for name, gate in gates.items()
    }


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
    """The lane's random key. purpose: 0 initial logits, 1 order of the pairs, 2 ablation values."""
    return jax.random.split(jax.random.key(lane.seed), 3)[purpose]


def _batch(tasks, size: int, lane: Lane, step: jax.Array):
    """The next `size` pairs of a shuffled pass over the lane's task, from every array [K, P, ...] of `tasks`.

    An incomplete last batch of a pass is dropped.
    """
    n_pairs = jax.tree.leaves(tasks)[0].shape[1]
    batches = n_pairs // size
    epoch, place = step // batches, step % batches
    order = jax.random.permutation(jax.random.fold_in(_key(lane, 1), epoch), n_pairs)
    chosen = jax.lax.dynamic_slice_in_dim(order, place * size, size)
    return jax.tree.map(lambda array: array[lane.task, chosen], tasks)
