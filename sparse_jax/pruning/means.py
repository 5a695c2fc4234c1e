"""The mean activation of every node over pretraining text: what a closed gate puts in its place."""

import io
import os

import jax
import jax.numpy as jnp
import numpy as np

from sparse_jax.files import write_whole
from sparse_jax.inputs import InputError
from sparse_jax.model import sites
from sparse_jax.model.config import ModelConfig
from sparse_jax.model.forward import Params, forward
from sparse_jax.model.hooks import Hooks


def node_means(
    config: ModelConfig, params: Params, windows_WxT: np.ndarray, batch_size: int = 16
) -> dict[str, jax.Array]:
    """Mean over windows and positions of every node site, [L, N] ([N] outside the layers), float32.

    Of the very model that is pruned, AbsTopK included (METHOD 6). The windows that do not fill a last
    batch are left out, so that one program serves.
    """
    batch_size = min(batch_size, len(windows_WxT))
    hooks = Hooks(capture=sites.NODE_SITES)

    @jax.jit
    def batch_means(tokens):
        captured = forward(config, params, tokens, hooks)[1]
        return {site: jnp.mean(x, axis=(-3, -2), dtype=jnp.float32) for site, x in captured.items()}

    totals, batches = None, len(windows_WxT) // batch_size
    for i in range(batches):
        means = batch_means(windows_WxT[i * batch_size : (i + 1) * batch_size])
        totals = means if totals is None else jax.tree.map(jnp.add, totals, means)
    return jax.tree.map(lambda total: total / batches, totals)


def save_means(means: dict[str, jax.Array], path: str | os.PathLike) -> None:
    """Writes the means to an npz file, whole or not at all: a circuit runs with nothing else as fill."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **{site: np.asarray(mean) for site, mean in means.items()})
    write_whole(path, buffer.getvalue())


def load_means(path: str | os.PathLike) -> dict[str, np.ndarray]:
    """What `save_means` wrote; means of the embedding may be missing, as in all files from before its gates.

    Raises InputError for a missing or foreign file.
    """
    try:
        with np.load(path) as arrays:
            means = dict(arrays)
    except (OSError, ValueError) as error:
        raise InputError(f"means: {path} cannot be read ({error})") from None
    if set(means) | {sites.EMBED_SITE} != set(sites.NODE_SITES):
        raise InputError(f"means: {path} holds {sorted(means)}; valid: {', '.join(sites.NODE_SITES)}")
    return means
