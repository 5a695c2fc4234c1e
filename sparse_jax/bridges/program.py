"""The compiled step that trains bridges, and the sparse model with them, beside a frozen dense model."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from sparse_jax.bridges.config import BridgeConfig, BridgeRun
from sparse_jax.bridges.maps import new_bridges
from sparse_jax.bridges.terms import BridgedParams, bridge_loss, loss_terms
from sparse_jax.model.forward import Params, initialize
from sparse_jax.models.model import Model
from sparse_jax.sparsity.config import SparsityConfig
from sparse_jax.training.evaluation import Evaluator
from sparse_jax.training.optimizer import sparse_optimizer
from sparse_jax.training.program import TrainProgram
from sparse_jax.training.sharding import (
    batch_sharding,
    check_batch,
    make_mesh,
    placed,
    state_sharding,
    stream_sharding,
)
from sparse_jax.training.state import TrainState
from sparse_jax.training.step import make_step


def bridge_program(config: BridgeRun, dense: Model, start: Model | None) -> TrainProgram:
    """The step of `config`, as `train_program` makes it, with the parameters of the dense model as constants.

    The state's parameters are {"sparse": ..., "bridges": ...}. start: the model that the sparse one starts
    from; None for a fresh one. Raises InputError as `train_program` does.
    """
    training = config.training
    mesh = make_mesh(training.mesh_data, training.mesh_fsdp, training.mesh_tensor)
    check_batch(mesh, training.batch_size, training.accumulate)
    optimizer = bridge_optimizer(config)
    rows = batch_sharding(mesh)
    stream = stream_sharding(rows)

    def fresh(*given: Params) -> TrainState:
        for_model, for_bridges = jax.random.split(jax.random.key(training.seed))
        sparse = given[0] if given else initialize(config.model, for_model)
        params = {"sparse": sparse, "bridges": new_bridges(config.model, dense.config, for_bridges)}
        return TrainState(jnp.int32(0), params, optimizer.init(params))

    def loss(params: BridgedParams, tokens: jax.Array, dense_params: Params) -> jax.Array:
        return bridge_loss(config, loss_terms(config, dense.config, params, dense_params, tokens, stream))

    given = () if start is None else (_spread(mesh, start.params),)
    shapes = jax.eval_shape(fresh, *given)
    shardings = state_sharding(mesh, shapes)
    constants = (_spread(mesh, dense.params),)
    step = jax.jit(
        make_step(loss, optimizer, training.accumulate),
        in_shardings=(shardings, rows, *(state_sharding(mesh, tree) for tree in constants)),
        out_shardings=(shardings, None),
        donate_argnums=0 if training.donate else (),
    )

    def evaluator(windows: Mapping[str, np.ndarray], weights: Mapping[str, float]) -> "BridgeEvaluator":
        return BridgeEvaluator(config, dense, constants[0], windows, weights, rows)

    tokens = training.batch_size, config.model.context + 1
    batch = jax.ShapeDtypeStruct(tokens, jnp.int32, sharding=rows)
    state = placed(shapes, shardings)
    return TrainProgram(mesh, optimizer, fresh, state, batch, step, evaluator, given, constants)


def _spread(mesh: jax.sharding.Mesh, params: Params) -> Any:
    return jax.device_put(params, state_sharding(mesh, params))


def bridge_optimizer(config: BridgeRun) -> optax.GradientTransformation:
    """The optimizer of training for the sparse model, projection last; the same without one for bridges.

    Each part normalizes its own gradient. A sparse model that is not trained gets no update.
    """
    settings, steps = config.bridges, config.training.steps
    of_maps = dataclasses.replace(config.optimizer, learning_rate=settings.learning_rate)
    parts = {
        "sparse": sparse_optimizer(config.optimizer, config.sparsity, steps, config.model.frozen)
        if settings.train_sparse
        else optax.set_to_zero(),
        "bridges": sparse_optimizer(of_maps, SparsityConfig(), steps),
    }

    # not optax.partition, under which leaves have other names, by which they are made sparse
    def init(params: BridgedParams) -> dict[str, optax.OptState]:
        return {name: part.init(params[name]) for name, part in parts.items()}

    def update(gradients: BridgedParams, state: Any, params: Any = None) -> Any:
        updates, states = {}, {}
        for name, part in parts.items():
            updates[name], states[name] = part.update(gradients[name], state[name], params[name])
        return updates, states

    return optax.GradientTransformation(init, update)


class BridgeEvaluator:
    """Measures the sparse model as in training, and all terms of the loss; compiled once per run."""

    def __init__(
        self,
        config: BridgeRun,
        dense: Model,
        dense_params: Params,
        windows: Mapping[str, np.ndarray],
        weights: Mapping[str, float],
        rows: jax.sharding.NamedSharding,
    ):
        """windows, weights: as in `Evaluator`. The terms are measured on as many windows as a batch has."""
        size = config.training.batch_size
        self._of_sparse = Evaluator(config.model, windows, weights, size, rows)
        every = dataclasses.replace(config, bridges=BridgeConfig(config.bridges.encoder_fraction))
        self._terms = jax.jit(
            lambda params, dense_params, tokens: loss_terms(every, dense.config, params, dense_params, tokens)
        )
        mixture = mixture_of(windows, weights, size)
        self._tokens = jax.make_array_from_callback(mixture.shape, rows, lambda place: mixture[place])
        self._dense_params = dense_params

    def __call__(self, params: BridgedParams) -> dict[str, float]:
        """The row of `Evaluator`, and "bridges/<term>" for every term."""
        terms = self._terms(params, self._dense_params, self._tokens)
        return self._of_sparse(params["sparse"]) | {f"bridges/{name}": float(x) for name, x in terms.items()}


def mixture_of(windows: Mapping[str, np.ndarray], weights: Mapping[str, float], size: int) -> np.ndarray:
    """`size` windows, of each source in proportion to its weight."""
    shares = np.array([weights[name] for name in windows]) / sum(weights[name] for name in windows)
    ends = np.round(np.cumsum(shares) * size).astype(int)
    starts = [0, *ends[:-1]]
    return np.concatenate([rows[: end - start] for rows, start, end in zip(windows.values(), starts, ends)])
