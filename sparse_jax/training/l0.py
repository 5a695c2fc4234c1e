"""L0 regularization: sparse weights by hard-concrete gates, as an alternative to the projection.

Every weight that would be made sparse has a gate. The loss is taken with random gates, and the gates'
parameters log_alpha are trained with the weights: by the loss, and by `sparsity.penalty` times the share of
the gates that are expected to be open. The params of a run are at every step the weights times the gates
without noise (`typical_gate`), so what is evaluated and saved has exact zeros, and nothing is projected.
Source: Louizos, Welling and Kingma (2018); METHOD section 3 names it among what the paper tried and dropped.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from sparse_jax.model.forward import Params
from sparse_jax.sparsity.config import SparsityConfig
from sparse_jax.sparsity.hard_concrete import chance_open, gate_of, typical_gate
from sparse_jax.sparsity.rules import sparse_leaves
from sparse_jax.trees import map_named, named_leaves

# log_alpha at the start, where the gate without noise is 1, and its bounds: from both a gate can come back.
START, BOUND = 2.5, 5.0


class L0State(NamedTuple):
    """raw: the weights before gates. log_alpha, masks: of the gates, None where a leaf is dense.

    weights, gates: the states of their optimizers.
    """

    count: jax.Array  # type: ignore[assignment]  # as `ProjectionState` has it
    raw: Params
    log_alpha: Params
    masks: Params
    weights: optax.OptState
    gates: optax.OptState


def regularize(
    weights: optax.GradientTransformation,
    gates: optax.GradientTransformation,
    config: SparsityConfig,
    seed: int,
) -> optax.GradientTransformation:
    """Trains gates beside weights; gradients have to be those at `noisy_params`.

    weights, gates: whole optimizers of both, learning rates included. `init` raises InputError for a config
    that does not fit the params.
    """

    def init(params):
        leaves = sparse_leaves(config, params)
        log_alpha = map_named(lambda name, p: jnp.full(p.shape, START) if name in leaves else None, params)
        masks = jax.tree.map(lambda value: jnp.ones(value.shape, bool), log_alpha)
        return L0State(
            jnp.zeros((), jnp.int32), params, log_alpha, masks, weights.init(params), gates.init(log_alpha)
        )

    def update(gradients, state, params):
        of_raw, of_gates = gradients_of(state, gradients, config.penalty, seed)
        change, weights_state = weights.update(of_raw, state.weights, state.raw)
        raw = optax.apply_updates(state.raw, change)
        change, gates_state = gates.update(of_gates, state.gates, state.log_alpha)
        log_alpha = jax.tree.map(
            lambda value, step: jnp.clip(value + step, -BOUND, BOUND), state.log_alpha, change
        )
        typical = {name: typical_gate(value) for name, value in named_leaves(log_alpha).items()}
        masks = map_named(lambda name, _: typical[name] > 0 if name in typical else None, params)
        goal = map_named(lambda name, w: w * typical[name] if name in typical else w, raw)
        count = optax.safe_increment(state.count)
        # p + (0 - p) is exactly 0 in float32
        moved = jax.tree.map(jnp.subtract, goal, params)
        return moved, L0State(count, raw, log_alpha, masks, weights_state, gates_state)

    return optax.GradientTransformation(init, update)


def gradients_of(state: L0State, gradients: Params, penalty: float, seed: int) -> tuple[Params, Params]:
    """The gradients of the raw weights and of log_alpha, from those of the loss at `noisy_params`.

    The objective of log_alpha is the loss plus `penalty` times the mean probability that a gate is open.
    """
    log_alpha, noise = named_leaves(state.log_alpha), uniform_noise(state, seed)
    raw, total = named_leaves(state.raw), sum(value.size for value in log_alpha.values())

    def back(name: str, gradient: jax.Array) -> tuple[jax.Array, jax.Array]:
        def objective(value: jax.Array) -> tuple[jax.Array, jax.Array]:
            gate = gate_of(value, noise[name])
            paid = penalty / total * chance_open(value).sum()
            return (gate * gradient * raw[name]).sum() + paid, gate

        of_gates, gate = jax.grad(objective, has_aux=True)(log_alpha[name])
        return gate * gradient, of_gates

    found = {name: back(name, g) for name, g in named_leaves(gradients).items() if name in log_alpha}
    of_raw = map_named(lambda name, g: found[name][0] if name in found else g, gradients)
    of_gates = map_named(lambda name, _: found[name][1], state.log_alpha)
    return of_raw, of_gates


def noisy_params(state: L0State, seed: int) -> Params:
    """What the loss of a step is taken at: the weights times the step's random gates."""
    log_alpha, noise = named_leaves(state.log_alpha), uniform_noise(state, seed)
    return map_named(
        lambda name, raw: raw * gate_of(log_alpha[name], noise[name]) if name in log_alpha else raw, state.raw
    )


def uniform_noise(state: L0State, seed: int) -> dict[str, jax.Array]:
    """The uniform numbers of this step's gates, by leaf; the same for the same seed and step."""
    log_alpha = named_leaves(state.log_alpha)
    keys = jax.random.split(jax.random.fold_in(jax.random.key(seed), state.count), len(log_alpha))
    return {name: jax.random.uniform(key, value.shape) for key, (name, value) in zip(keys, log_alpha.items())}
