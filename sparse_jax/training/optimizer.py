"""The optimizer of a sparse model: gradient normalization, AdamW, learning rate, projection."""

import re
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import optax

from sparse_jax.inputs import require, require_choice
from sparse_jax.sparsity.config import SparsityConfig
from sparse_jax.sparsity.projection import project
from sparse_jax.sparsity.schedules import fraction_kept
from sparse_jax.training.l0 import regularize
from sparse_jax.trees import map_named, named_leaves

GRADIENT_NORMS = ("normalize", "clip", "none")

_DECAYED = r".*/kernel"
_NOT_DECAYED = r"bigram/.*|position/kernel"


@dataclass(frozen=True)
class OptimizerConfig:
    """AdamW as in METHOD section 3. Raises InputError naming the field.

    learning_rate: the peak. warmup: share of training with a rising learning rate. weight_decay: applied to
    matrices only, not to the bigram table or positions. gradient_norm: 'normalize' divides the gradient by
    its global root-mean-square, 'clip' does so only where that exceeds 1, 'none' does nothing.
    sharkfin: multiplies the learning rate by sqrt(final fraction kept / fraction kept now), at most 1.
    """

    learning_rate: float = 1e-2
    b1: float = 0.9
    b2: float = 0.95
    eps: float = 0.1
    weight_decay: float = 0.1
    gradient_norm: str = "normalize"
    warmup: float = 0.01
    sharkfin: bool = True

    def __post_init__(self):
        require(self.learning_rate > 0, "optimizer.learning_rate", self.learning_rate, "above 0")
        require(0 <= self.b1 < 1, "optimizer.b1", self.b1, "at least 0, below 1")
        require(0 <= self.b2 < 1, "optimizer.b2", self.b2, "at least 0, below 1")
        require(self.eps > 0, "optimizer.eps", self.eps, "above 0")
        require(self.weight_decay >= 0, "optimizer.weight_decay", self.weight_decay, "0 or more")
        require_choice("optimizer.gradient_norm", self.gradient_norm, GRADIENT_NORMS)
        require(0 <= self.warmup < 1, "optimizer.warmup", self.warmup, "at least 0, below 1")


def sparse_optimizer(
    config: OptimizerConfig,
    sparsity: SparsityConfig,
    total_updates: int,
    frozen: tuple[str, ...] = (),
    seed: int = 0,
) -> optax.GradientTransformation:
    """The chain for a run of `total_updates`; leaves whose full name matches a regex in `frozen` stay fixed.

    The projection comes last; its state is part of the chain's: `optax.tree.get(state, "masks")` is None if
    `sparsity` is dense. With gates instead (`l0.regularize`), `seed` is that of their noise.
    """

    def is_frozen(name):
        return any(re.fullmatch(pattern, name) for pattern in frozen)

    def decays(params):
        return map_named(lambda name, _: _is_decayed(name) and not is_frozen(name), params)

    rate = optax.scale_by_learning_rate(
        lambda updates: learning_rate(config, sparsity, updates, total_updates)
    )
    adam_w = optax.chain(
        _trainable_gradient(config.gradient_norm, is_frozen),
        optax.scale_by_adam(config.b1, config.b2, config.eps),
        optax.add_decayed_weights(config.weight_decay, decays),
        rate,
    )
    if sparsity.method == "l0":
        # gradients of gates are tiny: only Adam without a floor moves them
        return regularize(
            adam_w, optax.chain(optax.scale_by_adam(config.b1, config.b2), rate), sparsity, seed
        )
    return adam_w if sparsity.is_dense else optax.chain(adam_w, project(sparsity, total_updates))


def learning_rate(
    config: OptimizerConfig, sparsity: SparsityConfig, updates: jax.Array | int, total_updates: int
) -> jax.Array:
    """The learning rate of the update that follows `updates` updates (may be traced).

    It rises linearly to its peak at the last update of the warm-up, then falls linearly; it would reach 0 one
    update after the last.
    """
    warmup = max(1, round(config.warmup * total_updates))
    rising = (updates + 1) / warmup
    falling = (total_updates - updates) / max(1, total_updates - warmup + 1)
    rate = config.learning_rate * jnp.minimum(rising, jnp.clip(falling, 0, 1))
    if not config.sharkfin:
        return rate
    return rate * jnp.sqrt(sparsity.final_fraction / fraction_kept(sparsity, updates, total_updates))


def _is_decayed(name: str) -> bool:
    return bool(re.fullmatch(_DECAYED, name)) and not re.fullmatch(_NOT_DECAYED, name)


def _trainable_gradient(norm: str, is_frozen) -> optax.GradientTransformation:
    """Sets frozen gradients to 0 and scales the others by their global root mean square."""

    def scaled(gradient):
        gradient = map_named(lambda name, g: jnp.zeros_like(g) if is_frozen(name) else g, gradient)
        if norm == "none":
            return gradient
        trained = [g for name, g in named_leaves(gradient).items() if not is_frozen(name)]
        mean_square = optax.tree.norm(trained, squared=True) / sum(g.size for g in trained)
        rms = jnp.sqrt(mean_square)
        divisor = rms + 1e-5 if norm == "normalize" else jnp.maximum(rms, 1)
        return jax.tree.map(lambda g: g / divisor, gradient)

    return optax.stateless(lambda gradient, _: scaled(gradient))
