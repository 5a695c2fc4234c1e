"""The bridges themselves: an encoder and a decoder at every residual location (METHOD 9)."""

from collections.abc import Mapping

import jax
import jax.numpy as jnp

from sparse_jax.bridges.hybrid import locations
from sparse_jax.inputs import InputError
from sparse_jax.model.config import ModelConfig
from sparse_jax.model.products import rows_times_matrix
from sparse_jax.topk.rows import abs_top_k

# "encoder" and "decoder", each with a kernel [M, Din, Dout] and a bias [M, Dout], for M locations.
Bridges = Mapping[str, Mapping[str, jax.Array]]


def new_bridges(sparse: ModelConfig, dense: ModelConfig, key: jax.Array) -> Bridges:
    """Fresh float32 bridges: kernels N(0, 1 / Din), so that maps keep the scale of the stream; biases 0."""
    count = len(locations(sparse))

    def maps(key: jax.Array, width_in: int, width_out: int) -> dict[str, jax.Array]:
        kernel = jax.random.normal(key, (count, width_in, width_out)) * width_in**-0.5
        return {"kernel": kernel, "bias": jnp.zeros((count, width_out))}

    one, other = jax.random.split(key)
    return {
        "encoder": maps(one, dense.d_model, sparse.d_model),
        "decoder": maps(other, sparse.d_model, dense.d_model),
    }


def encode(bridges: Bridges, number: int, dense_BxTxD: jax.Array, kept: int) -> jax.Array:
    """The sparse stream that stands for a dense one at location `number`; AbsTopK keeps `kept` channels."""
    return abs_top_k(_linear(bridges["encoder"], number, dense_BxTxD), kept, reused=False)


def decode(bridges: Bridges, number: int, sparse_BxTxD: jax.Array) -> jax.Array:
    """The dense stream that stands for a sparse one at location `number`."""
    return _linear(bridges["decoder"], number, sparse_BxTxD)


def _linear(maps: Mapping[str, jax.Array], number: int, x: jax.Array) -> jax.Array:
    return rows_times_matrix(x.astype(jnp.float32), maps["kernel"][number]) + maps["bias"][number]


def check_bridges(bridges: Bridges, sparse: ModelConfig, dense: ModelConfig) -> None:
    """Raises InputError for a map that is missing, or is not one matrix of the right size per location."""
    count = len(locations(sparse))
    widths = {"encoder": (dense.d_model, sparse.d_model), "decoder": (sparse.d_model, dense.d_model)}
    for name, (width_in, width_out) in widths.items():
        for leaf, valid in (("kernel", (count, width_in, width_out)), ("bias", (count, width_out))):
            found = jnp.shape(bridges[name][leaf]) if leaf in bridges.get(name, {}) else None
            if found != valid:
                said = "missing" if found is None else f"shape {found}"
                raise InputError(
                    f"bridges: {name}/{leaf}: {said}; valid: {valid}, one for each of the {count} locations"
                )
