"""Work counted from a traced program, against formulas and against the compiler on an unrolled program."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P

from sparse_jax.model.config import ModelConfig
from sparse_jax.model.forward import forward, param_shapes
from sparse_jax.planning.flops import matmul_flops
from sparse_jax.sparsity.config import SparsityConfig
from sparse_jax.training.optimizer import OptimizerConfig, sparse_optimizer
from sparse_jax.training.state import new_state
from sparse_jax.training.step import make_train_step

X, W = jax.ShapeDtypeStruct((8, 16), jnp.float32), jax.ShapeDtypeStruct((16, 16), jnp.float32)
ONE = 2 * 8 * 16 * 16


def counted(function, *arguments):
    return dict(matmul_flops(jax.jit(function).trace(*arguments).jaxpr.jaxpr))


def test_a_product():
    assert counted(jnp.matmul, X, W) == {"float32": ONE}


def test_types_are_counted_apart():
    def both(x, w):
        return (x @ w).astype(jnp.bfloat16) @ w.astype(jnp.bfloat16)

    assert counted(both, X, W) == {"float32": ONE, "bfloat16": ONE}


def test_a_batch_of_products():
    x, w = jax.ShapeDtypeStruct((3, 8, 16), jnp.float32), jax.ShapeDtypeStruct((3, 16, 16), jnp.float32)
    assert counted(jax.vmap(jnp.matmul), x, w) == {"float32": 3 * ONE}


def test_a_loop_counts_as_often_as_it_runs():
    def loop(x, w):
        return jax.lax.scan(lambda x, _: (x @ w, None), x, length=5)[0]

    assert counted(loop, X, W) == {"float32": 5 * ONE}


def test_gradients_and_what_they_compute_again():
    def loss(w, x):
        return jnp.sum(jax.checkpoint(lambda x: jnp.tanh(jnp.tanh(x @ w) @ w))(x))

    # forward 2, both again, backward 2 to w and 1 to what is between
    assert counted(jax.grad(loss), W, X) == {"float32": (2 + 2 + 2 + 1) * ONE}


def test_of_branches_the_one_with_most_work_counts():
    def branches(x, w):
        return jax.lax.cond(x[0, 0] > 0, lambda: x @ w @ w, lambda: x @ w)

    assert counted(branches, X, W) == {"float32": 2 * ONE}


def test_what_each_device_does_counts_for_all():
    mesh = jax.make_mesh((4,), ("rows",), axis_types=(AxisType.Auto,))
    split = jax.shard_map(jnp.matmul, mesh=mesh, in_specs=(P("rows"), P()), out_specs=P("rows"))
    assert counted(split, X, W) == {"float32": ONE}


def test_a_training_step_agrees_with_the_compiler_on_an_unrolled_one():
    config = ModelConfig(vocab_size=64, context=32, n_layers=3, d_model=128, activation_fraction=None)
    optimizer = sparse_optimizer(OptimizerConfig(), SparsityConfig(), 10)
    tokens = jax.ShapeDtypeStruct((16, 33), jnp.int32)

    def traced(unroll):
        own = dataclasses.replace(config, unroll=unroll)
        state = jax.eval_shape(lambda: new_state(own, optimizer, 0))
        return jax.jit(make_train_step(own, optimizer)).trace(state, tokens)

    rolled = matmul_flops(traced(False).jaxpr.jaxpr)["float32"]
    told = traced(True).lower().compile().cost_analysis()["flops"]
    # the compiler counts additions and the like as well
    assert rolled == pytest.approx(told, rel=0.15)
    assert rolled < told


def test_a_bigram_table_as_a_product_costs_that_product():
    config = ModelConfig(vocab_size=50, context=8, n_layers=1, d_model=16, d_head=4, activation_fraction=None)
    tokens = jnp.zeros((2, 8), jnp.int32)

    def forward_of(**changes):
        changed = dataclasses.replace(config, **changes)
        return counted(functools.partial(forward, changed), param_shapes(changed), tokens)["float32"]

    # the whole table is looked up
    assert forward_of() == forward_of(bigram="none")
    assert forward_of(bigram_table_rank=6) - forward_of() == 2 * (2 * 8) * 6 * 50
