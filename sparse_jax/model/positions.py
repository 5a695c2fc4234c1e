"""The positions of tokens, and which tokens each of them can see."""

import jax
import jax.numpy as jnp
from flax import struct

from sparse_jax.trees import Array


@struct.dataclass
class Branches:
    """Two texts with a common beginning as one sequence, which has the common tokens once.

    Tokens before `shared` [B] are common; those from there to `middle` [B] continue the first text, and the
    rest the second text. The rest have the positions that they would have without the first text, and do not
    see it.
    """

    shared: jax.Array
    middle: jax.Array


@struct.dataclass
class Positions:
    """What attention and position channels need to know about T tokens.

    index: position of every token, [T] or [B, T]. visible: which keys each token sees, [T, S] or [B, T, S].
    start: the index of the first token, for a cache.
    """

    index: jax.Array
    visible: jax.Array
    start: jax.Array | int = 0

    def at(self, at_BxA: jax.Array) -> "Positions":
        """The positions of some tokens of every sequence, [B, A] and [B, A, S]."""
        index = jnp.broadcast_to(self.index, (len(at_BxA), self.index.shape[-1]))
        visible = self.visible[at_BxA] if self.visible.ndim == 2 else take_tokens(self.visible, at_BxA)
        return Positions(jnp.take_along_axis(index, at_BxA, axis=1), visible, self.start)


def in_order(tokens: int, start: jax.Array | int = 0, keys: int | None = None) -> Positions:
    """Tokens start, start + 1, ... of one text; each sees itself and all before it, among `keys` keys."""
    index = start + jnp.arange(tokens)
    visible = jnp.arange(tokens if keys is None else keys)[None, :] <= index[:, None]
    return Positions(index, visible, start)


def in_branches(tokens: int, branches: Branches) -> Positions:
    """Tokens of two texts with a common beginning."""
    position = jnp.arange(tokens)
    shared, middle = branches.shared[:, None], branches.middle[:, None]
    second = position >= middle
    branch = (position >= shared) * 1 + second
    before = position[None, :] <= position[:, None]
    same = (branch[:, None, :] == 0) | (branch[:, None, :] == branch[:, :, None])
    return Positions(position - jnp.where(second, middle - shared, 0), before & same)


def take_tokens(x_BxTxN: Array, at_BxA: jax.Array) -> jax.Array:
    """The values of some tokens of every sequence, [B, A, N]."""
    return jnp.take_along_axis(x_BxTxN, at_BxA[:, :, None], axis=1)
