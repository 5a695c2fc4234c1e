"""Draws what closed nodes carry in a batch of pairs, for every kind of ablation but the adversary's part."""

import functools
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

from sparse_jax.ablation.kinds import ADVERSARIAL, RESAMPLED, is_constant
from sparse_jax.circuits.gates import Gates
from sparse_jax.model.config import ModelConfig
from sparse_jax.model.forward import Params, forward
from sparse_jax.model.hooks import Hooks
from sparse_jax.model.positions import Branches
from sparse_jax.tasks.packing import PackedPairs, Pairs
from sparse_jax.trees import Array


class Draws(NamedTuple):
    """How each of P pairs is ablated.

    kind: int32 [P], an index into the kinds of the ablation. seed: uint32 [P], of the pair's random draw.
    donor: where resampled values come from; None if no kind is resampled.
    """

    kind: Array
    seed: Array
    donor: "Donor | None" = None


class Donor(NamedTuple):
    """For each of P pairs a prompt, the same for both members, that other values come from.

    tokens: int32 [P, S], a pair as in `PackedPairs` (with its `shared` and `middle`) or a single prompt.
    last: [P], the index of the prompt's last token in its own text. jump: [P], how much further right in
    `tokens` that text stands after the common beginning.
    """

    tokens: Array
    shared: Array
    middle: Array
    last: Array
    jump: Array


class Ablated(NamedTuple):
    """What closed nodes carry: share * their own value + (1 - share) * values.

    values: by site [L, N], or [L, B, T, N] for each of B sequences ([N], [B, T, N] outside the layers).
    share: [L, B, 1, N] ([B, 1, N] outside the layers); absent for a site where it is 0.
    """

    values: Gates
    share: Gates


def draw_pairs(
    kinds: tuple[str, ...],
    pairs: Pairs,
    rows_P: Array,
    kind_P: Array,
    number_P: Array,
    seed: Array | int,
    text_WxT: Array | None = None,
) -> Draws:
    """How the pairs with the indices `rows` are ablated; the same for the same index, number and seed.

    pairs: all of the split, among which donors are chosen: another pair, either member of it. number: of the
    draw, such as the step. text: windows of training text, at least as long as the prompts.
    """

    def one(row, number):
        key = jax.random.fold_in(jax.random.fold_in(jax.random.key(seed), row), number)
        return jax.random.bits(key, dtype=jnp.uint32), jax.random.split(key, 4)

    seed_P, keys_Px4 = jax.vmap(one)(jnp.asarray(rows_P), jnp.asarray(number_P))
    kind_P = jnp.asarray(kind_P, jnp.int32)
    if not set(kinds) & set(RESAMPLED):
        return Draws(kind_P, seed_P)
    donor = jax.vmap(functools.partial(_member_of_another, jax.tree.map(jnp.asarray, pairs)))(
        keys_Px4, jnp.asarray(rows_P)
    )
    if text_WxT is not None and "resample_text" in kinds:
        passages = jax.vmap(functools.partial(_passage, jnp.asarray(text_WxT), donor.tokens.shape[-1]))(
            keys_Px4
        )
        is_text_P = kind_P == kinds.index("resample_text")
        donor = jax.tree.map(
            lambda text, other: jnp.where(jnp.expand_dims(is_text_P, range(1, text.ndim)), text, other),
            passages,
            donor,
        )
    return Draws(kind_P, seed_P, donor)


def _member_of_another(pairs: Pairs, keys_4, row) -> Donor:
    """A random member of a random pair that is not number `row`."""
    count, length = len(pairs.tokens), pairs.tokens.shape[-1]
    other = (row + 1 + jax.random.randint(keys_4[0], (), 0, count - 1)) % count
    member = jax.random.randint(keys_4[1], (), 0, 2)
    tokens, last = pairs.tokens[other], pairs.last[other][member]
    if not isinstance(pairs, PackedPairs):
        whole = jnp.int32(length)
        return Donor(tokens[member], whole, whole, last, jnp.int32(0))
    shared, middle = pairs.shared[other], pairs.middle[other]
    jump = jnp.where((member == 1) & (last >= middle), middle - shared, 0)
    return Donor(tokens, shared, middle, last - jump, jump)


def _passage(text_WxT: jax.Array, length: int, keys_4) -> Donor:
    """A random passage of text, `length` tokens or, if windows are shorter, a window."""
    size = min(length, text_WxT.shape[1])
    window = text_WxT[jax.random.randint(keys_4[2], (), 0, len(text_WxT))]
    start = jax.random.randint(keys_4[3], (), 0, text_WxT.shape[1] - size + 1)
    tokens = jnp.pad(jax.lax.dynamic_slice(window, (start,), (size,)), (0, length - size))
    whole = jnp.int32(length)
    return Donor(tokens.astype(jnp.int32), whole, whole, jnp.int32(size - 1), jnp.int32(0))


def draw_ablated(
    config: ModelConfig, params: Params, kinds: tuple[str, ...], means: Gates, pairs: Pairs, draws: Draws
) -> Ablated:
    """What closed nodes carry in these pairs, at every site of `means`.

    For kinds of an adversary the share is 1/2, where its search begins (`adversary.worst_share`).
    """
    if len(kinds) == 1 and is_constant(kinds[0]):
        return Ablated(constant_ablated(kinds[0], means), {})
    repeats = 2 if pairs.tokens.ndim == 3 else 1  # members of a pair; packed ones are one sequence
    kind_B = jnp.repeat(draws.kind, repeats)
    values: Gates = means
    if "zero" in kinds:
        values = {site: _where(kind_B == kinds.index("zero"), 0.0, mean) for site, mean in means.items()}
    if set(kinds) & set(RESAMPLED):
        values = _resampled(config, params, kinds, values, pairs, draws, kind_B)
    return Ablated(values, _shares(kinds, means, draws, kind_B, repeats))


def constant_ablated(kind: str, means: Gates) -> Gates:
    """The ablation values [L, N] of the constant kinds, "mean" and "zero"."""
    return means if kind == "mean" else jax.tree.map(jnp.zeros_like, means)


def partly_open(gates: Gates, share: Gates) -> Gates:
    """The gates where closed nodes keep a share of their own value."""
    return {site: _shared(gate, share[site]) if site in share else gate for site, gate in gates.items()}


def _shared(gate: Array, share: Array) -> Array:
    gate = gate[..., None, None, :]
    return gate + (1 - gate) * share


def is_one_of(some: Sequence[str], kinds: tuple[str, ...], kind_B: jax.Array) -> jax.Array:
    """For each sequence, whether its kind (an index into `kinds`) is one of `some`."""
    return jnp.array([kind in some for kind in kinds])[kind_B]


def _where(chosen_B: jax.Array, one: Array | float, other: Array) -> jax.Array:
    """`one` for the chosen sequences; both are [..., N] or broadcast to [..., B, T, N]."""
    other = other if jnp.ndim(other) > 2 else jnp.asarray(other)[..., None, None, :]
    return jnp.where(chosen_B[:, None, None], one, other)


def _resampled(config, params, kinds, values, pairs: Pairs, draws: Draws, kind_B) -> Gates:
    """`values`, but in sequences of resampled kinds those of their donors, at aligned positions.

    The common beginning of a packed pair is aligned as in its first member.
    """
    donor = draws.donor
    assert donor is not None  # drawn for these kinds
    branches = Branches(jnp.asarray(donor.shared), jnp.asarray(donor.middle))
    captured = forward(config, params, donor.tokens, Hooks(capture=tuple(values)), branches=branches)[1]
    index_BxT, end_BxT = _places(pairs)
    repeats = len(kind_B) // len(draws.kind)
    last_B, shared_B, jump_B = (
        jnp.repeat(jnp.asarray(column), repeats)[:, None] for column in (donor.last, donor.shared, donor.jump)
    )
    by_end = jnp.maximum(index_BxT - end_BxT + last_B, 0)
    is_end_B = is_one_of(("resample",), kinds, kind_B)
    place_BxT = jnp.minimum(jnp.where(is_end_B[:, None], by_end, index_BxT), last_B)
    place_BxT = place_BxT + jnp.where(place_BxT >= shared_B, jump_B, 0)
    is_resampled_B = is_one_of(RESAMPLED, kinds, kind_B)

    def of_site(site, x):
        x = jnp.repeat(x, repeats, axis=-3)
        place = place_BxT[..., None] if x.ndim == 3 else place_BxT[None, ..., None]
        return _where(is_resampled_B, jnp.take_along_axis(x, place, axis=-2), values[site])

    return {site: of_site(site, x) for site, x in captured.items()}


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


def _shares(kinds, means, draws: Draws, kind_B, repeats: int) -> Gates:
    if set(kinds).isdisjoint(("stochastic", *ADVERSARIAL)):
        return {}
    is_random_B = is_one_of(("stochastic",), kinds, kind_B)
    starts_B = jnp.where(is_one_of(ADVERSARIAL, kinds, kind_B), 0.5, 0.0)

    def of_site(number: int, mean):
        def one(seed):
            return jax.random.uniform(jax.random.fold_in(jax.random.key(seed), number), mean.shape)

        # members of a pair share their draw, so that packed pairs are the same as unpacked ones
        drawn = jnp.repeat(jnp.moveaxis(jax.vmap(one)(draws.seed), 0, -2), repeats, axis=-2)[..., None, :]
        return jnp.where(is_random_B[:, None, None], drawn, starts_B[:, None, None])

    return {site: of_site(number, means[site]) for number, site in enumerate(sorted(means))}
