"""As a script, on 8 simulated devices: the collectives of the optimizer's update and of AbsTopK, as JSON."""

import json
import math
import re
import sys

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from sparse_jax.model.config import ModelConfig
from sparse_jax.sparsity.config import SparsityConfig
from sparse_jax.topk.rows import abs_top_k
from sparse_jax.training.optimizer import OptimizerConfig, sparse_optimizer
from sparse_jax.training.sharding import BATCH, make_mesh, state_sharding
from sparse_jax.training.state import new_state

CONFIG = ModelConfig(vocab_size=64, context=32, n_layers=2, d_model=64, d_head=16)
SPARSITY = SparsityConfig(fraction=1 / 8, schedule="linear", anneal_start=0.0, anneal_end=1.0)
ACTIVATIONS = (16, 32, 1024)
COLLECTIVE = r" = (.*?) (all-reduce|all-gather|all-to-all|collective-permute|reduce-scatter)(?:-start)?\("


def collectives(compiled) -> list[tuple[str, int]]:
    """Kind and number of entries of all that a compiled program moves between devices."""
    found = []
    for line in compiled.as_text().splitlines():
        if match := re.search(COLLECTIVE, line):
            for shape in re.findall(r"\w+\[([\d,]*)\]", match.group(1)):
                sizes = [int(size) for size in shape.split(",") if size]
                found.append((match.group(2), math.prod(sizes)))
    return found


def of_update(mesh: Mesh) -> list[tuple[str, int]]:
    """Of gradients to updates: moments, top-k projection and masks."""
    optimizer = sparse_optimizer(OptimizerConfig(), SPARSITY, 100)
    shapes = jax.eval_shape(lambda: new_state(CONFIG, optimizer, 0))
    places = state_sharding(mesh, shapes)
    arguments = (shapes.params, shapes.opt_state, shapes.params)
    own = (places.params, places.opt_state, places.params)
    update = jax.jit(optimizer.update, in_shardings=own, out_shardings=own[:2])
    return collectives(update.lower(*arguments).compile())


def of_abs_top_k(mesh: Mesh, last_axis: str | None) -> list[tuple[str, int]]:
    """Forward and backward, of activations [B, T, N] whose batch is split, and perhaps their channels."""
    x = jax.ShapeDtypeStruct(ACTIVATIONS, jnp.float32)

    def gradients(x):
        return jax.grad(lambda x: jnp.sum(abs_top_k(x, 16) ** 2))(x)

    place = NamedSharding(mesh, PartitionSpec(*BATCH, None, last_axis))
    return collectives(jax.jit(gradients, in_shardings=place, out_shardings=place).lower(x).compile())


def of_mesh(*shape: int) -> dict[str, list[tuple[str, int]]]:
    """All three programs on one mesh."""
    mesh = make_mesh(*shape)
    return {
        "update": of_update(mesh),
        "abs_top_k": of_abs_top_k(mesh, None),
        "abs_top_k_of_split_channels": of_abs_top_k(mesh, "tensor"),
    }


if __name__ == "__main__":
    jax.config.update("jax_num_cpu_devices", 8)
    print(json.dumps([of_mesh(*map(int, shape.split("x"))) for shape in sys.argv[1:]]))
