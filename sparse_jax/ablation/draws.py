"""Draws what closed nodes carry in a batch of pairs, for every kind of ablation but the adversary's part."""

import functools
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from sparse_jax.ablation.kinds import ADVERSARIAL, RESAMPLED, is_drawn
from sparse_jax.circuits.gates import Gates
from sparse_jax.model.config import ModelConfig
from sparse_jax.model.forward import Params, forward
from sparse_jax.model.hooks import Hooks
from sparse_jax.model.positions import Branches
from sparse_jax.tasks.packing import PackedPairs, Pairs
from sparse_jax.trees import Array


class Draws(NamedTuple):
    """How each of P pairs is ablated.

    seed: uint32 [P], of the pair's random draw. donor: where resampled values come from; None for kinds that
    are not resampled.
    """

    seed: Array
    donor: "Donor | None" = None


class Donor(NamedTuple):
    """For each of P pairs a prompt, the same for both members, that other values come from.

    tokens: int32 [P, S], a pair as in `PackedPairs` (with its `shared` and `middle`) or a single prompt.
    last: [P], the index of the prompt's last token in its own text. jump: [P], how much further right in
    `tokens` that text stands after the common beginning. from_end: bool [P], whether positions are aligned at
    the last tokens, not at the first.
    """

    tokens: Array
    shared: Array
    middle: Array
    last: Array
    jump: Array
    from_end: Array


class Ablated(NamedTuple):
    """What closed nodes carry: share * their own value + (1 - share) * values.

    values: by site [L, N], or [L, B, T, N] for each of B sequences ([N], [B, T, N] outside the layers).
    share: [L, B, 1, N] ([B, 1, N] outside the layers); absent for a site where it is 0.
    """

    values: Gates
    share: Gates


def draw_pairs(
    kind: str,
    pairs: Pairs,
    rows_P: Array,
    number_P: Array,
    seed: Array | int,
    text_WxT: Array | None = None,
) -> Draws:
    """How the pairs with the indices `rows` are ablated; the same for the same index, number and seed.

    pairs: all of the split, among which donors are chosen: another pair, either member of it. number: of the
    draw, such as the step. text: windows of training text, at least as long as the prompts, for
    "resample_text". Compiled, for no more than the kind needs: its single operations would take tens of times
    as long. The seeds are 0 for kinds that depend on no draw.
    """
    if not is_drawn(kind):
        return Draws(np.zeros(len(rows_P), np.uint32))
    if isinstance(seed, int):
        seed = np.array(seed, np.int64).astype(np.int32)  # the 32 bits that a key is made of
    donors = pairs if kind in RESAMPLED else None
    text = text_WxT if kind == "resample_text" else None
    return _draw(donors, kind == "resample", rows_P, number_P, seed, text)


@functools.partial(jax.jit, inline=True)
def _draw(pairs: Pairs | None, from_end, rows_P, number_P, seed, text_WxT) -> Draws:
    def one(row, number):
        key = jax.random.fold_in(jax.random.fold_in(jax.random.key(seed), row), number)
        return jax.random.bits(key, dtype=jnp.uint32), jax.random.split(key, 4)

    seed_P, keys_Px4 = jax.vmap(one)(rows_P, number_P)
    if pairs is None:
        return Draws(seed_P)
    if text_WxT is not None:
        passage = functools.partial(_passage, text_WxT, pairs.tokens.shape[-1], from_end)
        return Draws(seed_P, jax.vmap(passage)(keys_Px4))
    member = functools.partial(_member_of_another, pairs, from_end)
    return Draws(seed_P, jax.vmap(member)(keys_Px4, rows_P))


def _member_of_another(pairs: Pairs, from_end, keys_4, row) -> Donor:
    """A random member of a random pair that is not number `row`."""
    count, length = len(pairs.tokens), pairs.tokens.shape[-1]
    other = (row + 1 + jax.random.randint(keys_4[0], (), 0, count - 1)) % count
    member = jax.random.randint(keys_4[1], (), 0, 2)
    tokens, last = pairs.tokens[other], pairs.last[other][member]
    if not isinstance(pairs, PackedPairs):
        whole = jnp.int32(length)
        return Donor(tokens[member], whole, whole, last, jnp.int32(0), from_end)
    shared, middle = pairs.shared[other], pairs.middle[other]
    jump = jnp.where((member == 1) & (last >= middle), middle - shared, 0)
    return Donor(tokens, shared, middle, last - jump, jump, from_end)


def _passage(text_WxT: jax.Array, length: int, from_end, keys_4) -> Donor:
    """A random passage of text, `length` tokens or, if windows are shorter, a window."""
    size = min(length, text_WxT.shape[1])
    window = text_WxT[jax.random.randint(keys_4[2], (), 0, len(text_WxT))]
    start = jax.random.randint(keys_4[3], (), 0, text_WxT.shape[1] - size + 1)
    tokens = jnp.pad(jax.lax.dynamic_slice(window, (start,), (size,)), (0, length - size))
    whole = jnp.int32(length)
    return Donor(tokens.astype(jnp.int32), whole, whole, jnp.int32(size - 1), jnp.int32(0), from_end)


def draw_ablated(
    config: ModelConfig, params: Params, kind: str, means: Gates, pairs: Pairs, draws: Draws
) -> Ablated:
    """What closed nodes carry in these pairs, at every site of `means`.

    For kinds of an adversary the share is 1/2, where its search begins (`adversary.worst_share`).
    """
    if kind in RESAMPLED:
        return Ablated(_resampled(config, params, means, pairs, draws), {})
    if kind == "stochastic" or kind in ADVERSARIAL:
        return Ablated(means, _shares(kind, means, pairs, draws))
    return Ablated(constant_ablated(kind, means), {})


def joined(parts: Sequence[Ablated], pairs: Sequence[Pairs]) -> Ablated:
    """What closed nodes carry in several groups of pairs, one after the other."""
    if len(parts) == 1:
        return parts[0]
    length = pairs[0].tokens.shape[-1]
    counts = [_sequences(group) for group in pairs]

    def values(site: str) -> Array:
        each = [part.values[site] for part in parts]
        if all(value is each[0] for value in each):
            return each[0]  # the mean, for all groups
        return jnp.concatenate([_spread(x, count, length) for x, count in zip(each, counts)], axis=-3)

    def share(site: str) -> Array:
        nothing = jnp.zeros(jnp.shape(some[site])[:-3] + (1, 1, jnp.shape(some[site])[-1]))
        each = [part.share.get(site, nothing) for part in parts]
        return jnp.concatenate([_spread(x, count, 1) for x, count in zip(each, counts)], axis=-3)

    some = next((part.share for part in parts if part.share), {})
    return Ablated({site: values(site) for site in parts[0].values}, {site: share(site) for site in some})


def _spread(x: Array, count: int, length: int) -> jax.Array:
    """An array for each of `count` sequences and `length` tokens, from [L, N] or [L, B, T, N]."""
    x = x if jnp.ndim(x) > 2 else jnp.asarray(x)[..., None, None, :]
    return jnp.broadcast_to(x, (*x.shape[:-3], count, length, x.shape[-1]))


def _sequences(pairs: Pairs) -> int:
    """How many sequences are run for these pairs: the members of each, or one that packs both."""
    return len(pairs.tokens) * _members(pairs)


def _members(pairs: Pairs) -> int:
    return 2 if pairs.tokens.ndim == 3 else 1


def constant_ablated(kind: str, means: Gates) -> Gates:
    """The ablation values [L, N] of the constant kinds, "mean" and "zero"."""
    return means if kind == "mean" else jax.tree.map(jnp.zeros_like, means)


def _resampled(config, params, means: Gates, pairs: Pairs, draws: Draws) -> dict[str, jax.Array]:
    """The donors' values at aligned positions.

    The common beginning of a packed pair is aligned as in its first member.
    """
    donor = draws.donor
    assert donor is not None  # drawn for these kinds
    branches = Branches(jnp.asarray(donor.shared), jnp.asarray(donor.middle))
    captured = forward(config, params, donor.tokens, Hooks(capture=tuple(means)), branches=branches)[1]
    index_BxT, end_BxT = _places(pairs)
    repeats = _members(pairs)
    last_B, shared_B, jump_B, from_end_B = (
        jnp.repeat(jnp.asarray(column), repeats)[:, None]
        for column in (donor.last, donor.shared, donor.jump, donor.from_end)
    )
    by_end = jnp.maximum(index_BxT - end_BxT + last_B, 0)
    place_BxT = jnp.minimum(jnp.where(from_end_B, by_end, index_BxT), last_B)
    place_BxT = place_BxT + jnp.where(place_BxT >= shared_B, jump_B, 0)

    def aligned(x):
        x = jnp.repeat(x, repeats, axis=-3)
        place = place_BxT[..., None] if x.ndim == 3 else place_BxT[None, ..., None]
        return jnp.take_along_axis(x, place, axis=-2)

    return jax.tree.map(aligned, captured)


def _places(pairs: Pairs) -> tuple[jax.Array, jax.Array]:
    """For every token its index in its own text, and that of the last token there; broadcast to [B, T]."""
    position = jnp.arange(pairs.tokens.shape[-1])
    last = jnp.asarray(pairs.last)
    if not isinstance(pairs, PackedPairs):
        return position[None], last.reshape(-1, 1)
    shared, middle = jnp.asarray(pairs.shared)[:, None], jnp.asarray(pairs.middle)[:, None]
    is_second = position >= middle
    jump = jnp.where(is_second, middle - shared, 0)
    return position - jump, jnp.where(is_second, last[:, 1:], last[:, :1]) - jump


def _shares(kind: str, means: Gates, pairs: Pairs, draws: Draws) -> dict[str, jax.Array]:
    repeats = _members(pairs)

    def of_site(number: int, mean):
        if kind in ADVERSARIAL:
            return jnp.full((*mean.shape[:-1], _sequences(pairs), 1, mean.shape[-1]), 0.5)

        def one(seed):
            return jax.random.uniform(jax.random.fold_in(jax.random.key(seed), number), mean.shape)

        # members of a pair share their draw, so that packed pairs are the same as unpacked ones
        return jnp.repeat(jnp.moveaxis(jax.vmap(one)(draws.seed), 0, -2), repeats, axis=-2)[..., None, :]

    return {site: of_site(number, means[site]) for number, site in enumerate(sorted(means))}
