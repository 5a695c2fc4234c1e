"""The loss of every hybrid path: one switch between the models, or a switch and a way back (METHOD 9)."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from sparse_jax.bridges.hybrid import locations, run, run_from
from sparse_jax.bridges.maps import decode, encode
from sparse_jax.bridges.train import BridgedPair
from sparse_jax.inputs import require
from sparse_jax.model.config import ModelConfig
from sparse_jax.model.forward import Params, check_ids
from sparse_jax.models.model import Model

SPARSE, DENSE = "sparse", "dense"


class PathLoss(NamedTuple):
    """A path and its loss in nats a token.

    begins: the model that the run begins in. switch, back: the names of the locations where it goes over to
    the other model and comes back; None for never. added: loss beyond that of the path without a switch, with
    its standard error over windows.
    """

    begins: str
    switch: str | None
    back: str | None
    loss: float
    added: float
    added_error: float


def measure_paths(pair: BridgedPair, windows: np.ndarray, batch_size: int = 16) -> list[PathLoss]:
    """All paths in either direction on windows [W, T + 1]: without a switch, with one, and with a way back.

    Raises InputError for windows that do not fit the models, or no whole number of batches of them.
    """
    count = len(windows)
    whole = count > 0 and batch_size > 0 and count % batch_size == 0
    require(whole, "windows", count, f"a positive multiple of batch_size {batch_size}")
    check_ids(pair.sparse.config, windows, "windows")
    found: dict[tuple[str, int | None, int | None], list[np.ndarray]] = {}
    for start in range(0, count, batch_size):
        tokens = jnp.asarray(windows[start : start + batch_size])
        for begins in (SPARSE, DENSE):
            for places, losses_B in _paths_from(pair, begins, tokens).items():
                found.setdefault((begins, *places), []).append(np.asarray(losses_B, np.float64))
    names = {None: None} | {i: place.name for i, place in enumerate(locations(pair.sparse.config))}
    rows = []
    for (begins, switch, back), parts in found.items():
        losses = np.concatenate(parts)
        added = losses - np.concatenate(found[begins, None, None])
        error = added.std(ddof=1) / count**0.5 if count > 1 else np.nan
        figures = float(losses.mean()), float(added.mean()), float(error)
        rows.append(PathLoss(begins, names[switch], names[back], *figures))
    return rows


def _paths_from(
    pair: BridgedPair, begins: str, tokens: jax.Array
) -> dict[tuple[int | None, int | None], jax.Array]:
    """Losses [B] of the paths that begin in one model, by the numbers of the switch and of the way back."""
    here, there = (pair.sparse, pair.dense) if begins == SPARSE else (pair.dense, pair.sparse)
    losses, stream = _whole(here.config, here.params, tokens)
    found: dict[tuple[int | None, int | None], jax.Array] = {(None, None): losses}
    for switch, x in enumerate(stream):
        losses, after = _rest(there.config, there.params, tokens, switch, _over(pair, there, switch, x))
        found[switch, None] = losses
        for back, y in enumerate(after[1:], switch + 1):
            found[switch, back], _ = _rest(here.config, here.params, tokens, back, _over(pair, here, back, y))
    return found


def _over(pair: BridgedPair, to: Model, number: int, x: jax.Array) -> jax.Array:
    """The stream of the other model, mapped to that of `to`."""
    if to is pair.sparse:
        return encode(pair.bridges, number, x, pair.kept)
    return decode(pair.bridges, number, x)


@functools.partial(jax.jit, static_argnames="config")
def _whole(config: ModelConfig, params: Params, tokens: jax.Array):
    logits, stream = run(config, params, tokens[:, :-1])
    return _losses(logits, tokens), stream


@functools.partial(jax.jit, static_argnames=("config", "number"))
def _rest(config: ModelConfig, params: Params, tokens: jax.Array, number: int, x: jax.Array):
    logits, after = run_from(config, params, tokens[:, :-1], number, x)
    return _losses(logits, tokens), after


def _losses(logits: jax.Array, tokens: jax.Array) -> jax.Array:
    """The mean loss of each window, [B]."""
    return optax.softmax_cross_entropy_with_integer_labels(logits, tokens[:, 1:]).mean(axis=-1)
