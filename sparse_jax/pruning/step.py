"""One lane of gate optimization: a pure initial state and a pure step, ready for vmap."""

import jax
import jax.numpy as jnp
import optax
from flax import struct

from sparse_jax.model.config import ModelConfig
from sparse_jax.model.forward import Params
from sparse_jax.pruning.config import Hyperparameters, PruneConfig
from sparse_jax.pruning.gates import Gates, count, initial_logits, open_gates
from sparse_jax.pruning.objective import pair_losses
from sparse_jax.tasks.encode import EncodedPairs

LOGIT_BOUND = 1.0


@struct.dataclass
class LaneState:
    """What one pruning run carries: gate logits, their moments, and the order of the pairs."""

    step: jax.Array
    logits: Gates
    opt_state: optax.OptState
    key: jax.Array


def new_lane(config: ModelConfig, prune: PruneConfig, hyper: Hyperparameters, key: jax.Array) -> LaneState:
    """The state before the first step; all randomness of the lane comes from `key`."""
    init_key, order_key = jax.random.split(key)
    logits = initial_logits(config, prune.sites, init_key, hyper.init_mean, hyper.init_scale)
    return LaneState(jnp.int32(0), logits, _optimizer(hyper).init(logits), order_key)


def lane_step(
    config: ModelConfig,
    prune: PruneConfig,
    params: Params,
    fills: Gates,
    pairs: EncodedPairs,
    hyper: Hyperparameters,
    state: LaneState,
) -> tuple[LaneState, dict[str, jax.Array]]:
    """One update of the gate logits on `pairs_per_step` of the P training pairs.

    The loss is the mean task loss plus k_coef times the number of open gates; only the gates get
    gradients (METHOD 6). Returns the new state and {"loss", "nodes"} as they were before the update.
    """

    def loss_of(logits: Gates):
        gates = open_gates(logits, hyper.temperature)
        loss = pair_losses(config, params, gates, fills, batch, prune.objective).mean()
        nodes = count(gates)
        return loss + hyper.k_coef * nodes, {"loss": loss, "nodes": nodes}

    batch = _batch(pairs, prune.pairs_per_step, state)
    gradients, metrics = jax.grad(loss_of, has_aux=True)(state.logits)
    updates, opt_state = _optimizer(hyper).update(gradients, state.opt_state, state.logits)
    rate = -_learning_rate(prune, hyper, state.step)
    logits = jax.tree.map(
        lambda tau, update: jnp.clip(tau + rate * update, -LOGIT_BOUND, LOGIT_BOUND), state.logits, updates
    )
    return LaneState(state.step + 1, logits, opt_state, state.key), metrics


def _optimizer(hyper: Hyperparameters) -> optax.GradientTransformation:
    """AdamW without its learning rate, after clipping the global norm."""
    return optax.chain(
        optax.clip_by_global_norm(hyper.gradient_clip),
        optax.scale_by_adam(b1=0.9, b2=hyper.b2),
        optax.add_decayed_weights(hyper.weight_decay),
    )


def _learning_rate(prune: PruneConfig, hyper: Hyperparameters, step: jax.Array) -> jax.Array:
    """A linear decay from 1 to 1/steps, times a linear warm-up."""
    progress = (step + 1) / prune.steps
    warm = jnp.minimum(1.0, progress / jnp.maximum(hyper.warmup, 1 / prune.steps))
    return hyper.learning_rate * warm * (1 - step / prune.steps)


def _batch(pairs: EncodedPairs, size: int, state: LaneState) -> EncodedPairs:
    """The next `size` pairs of a shuffled pass; a pass leaves out what does not fill a batch."""
    n_pairs = pairs.tokens.shape[0]
    batches = n_pairs // size
    epoch, place = state.step // batches, state.step % batches
    order = jax.random.permutation(jax.random.fold_in(state.key, epoch), n_pairs)
    chosen = jax.lax.dynamic_slice_in_dim(order, place * size, size)
    return jax.tree.map(lambda array: array[chosen], pairs)
