"""Calibration: fits a scale and a shift to a circuit's logits (METHOD 6)."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from sparse_jax.tasks.metrics import LOSSES
from sparse_jax.trees import Array


class Calibration(NamedTuple):
    """logits -> scale * logits + shift: a positive scalar and a value per token [V]."""

    scale: jax.Array
    shift: jax.Array

    def apply(self, logits: Array) -> jax.Array:
        """The calibrated logits [..., V]."""
        return self.scale * logits + self.shift

    def to_json(self) -> dict[str, Any]:
        """The scale, and the nonzero shifts by token id."""
        shift = np.asarray(self.shift)
        return {
            "scale": float(self.scale),
            "shift": {str(i): float(shift[i]) for i in np.flatnonzero(shift)},
        }


def calibrate(
    logits_Px2xV: Array, candidates_Px2x2: Array, steps: int, objective: str = "binary"
) -> Calibration:
    """Fits scale (kept positive) and shift by `steps` of L-BFGS on the mean loss of the given pairs.

    A shift common to all tokens would change nothing under a softmax, so the shift is per token.
    """
    log_scale, shift = _fit(logits_Px2xV, candidates_Px2x2, steps, objective)
    return Calibration(jnp.exp(log_scale), shift)


@functools.partial(jax.jit, static_argnums=(2, 3))
def _fit(logits, candidates, steps, objective):
    def loss(fit):
        log_scale, shift = fit
        return LOSSES[objective](jnp.exp(log_scale) * logits + shift, candidates).mean()

    optimizer = optax.lbfgs()
    value_and_grad = optax.value_and_grad_from_state(loss)

    def step(carry, _):
        fit, state = carry
        value, gradient = value_and_grad(fit, state=state)
        updates, state = optimizer.update(gradient, state, fit, value=value, grad=gradient, value_fn=loss)
        return (optax.apply_updates(fit, updates), state), None

    start = (jnp.zeros(()), jnp.zeros(logits.shape[-1]))
    (fit, _), _ = jax.lax.scan(step, (start, optimizer.init(start)), length=steps)
    return fit
