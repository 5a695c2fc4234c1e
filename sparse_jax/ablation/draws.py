"""Draws what closed nodes carry in a batch of pairs, for every kind of ablation but the adversary's part."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from sparse_jax.ablation.kinds import RESAMPLED
from sparse_jax.circuits.gates import Gates
from sparse_jax.model.config import ModelConfig
from sparse_jax.model.forward import Params, forward
from sparse_jax.model.hooks import Hooks
from sparse_jax.tasks.packing import Pairs
from sparse_jax.trees import Array


class Draws(NamedTuple):
    """How each of P pairs is ablated.

    kind: int32 [P], an index into the kinds of the ablation. seed: uint32 [P], of the pair's random draw.
    tokens [P, 2, T] and last [P, 2]: the prompts that resampled values come from; None if no kind has any.
    """

    kind: Array
    seed: Array
    tokens: Array | None = None
    last: Array | None = None


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

    seeds_P, keys_Px4 = jax.vmap(one)(jnp.asarray(rows_P), jnp.asarray(number_P))
    kind_P = jnp.asarray(kind_P, jnp.int32)
    if not set(kinds) & set(RESAMPLED):
        return Draws(kind_P, seeds_P)
    count, length = len(pairs.tokens), pairs.tokens.shape[-1]

    def donor(keys, row):
        other = (row + 1 + jax.random.randint(keys[0], (), 0, count - 1)) % count
        member = (jnp.arange(2) + jax.random.randint(keys[1], (), 0, 2)) % 2
        return jnp.asarray(pairs.tokens)[other][member], jnp.asarray(pairs.last)[other][member]

    tokens, last = jax.vmap(donor)(keys_Px4, jnp.asarray(rows_P))
    if text_WxT is not None and "resample_text" in kinds:
        windows = jnp.asarray(text_WxT)

        def passage(keys):
            window = jax.random.randint(keys[2], (2,), 0, len(windows))
            start = jax.random.randint(keys[3], (2,), 0, windows.shape[1] - length + 1)
            return jax.vmap(lambda w, s: jax.lax.dynamic_slice(windows[w], (s,), (length,)))(window, start)

        is_text_P = kind_P == kinds.index("resample_text")
        tokens = jnp.where(is_text_P[:, None, None], jax.vmap(passage)(keys_Px4), tokens)
        last = jnp.where(is_text_P[:, None], length - 1, last)
    return Draws(kind_P, seeds_P, tokens, last)


def draw_ablated(
    config: ModelConfig, params: Params, kinds: tuple[str, ...], means: Gates, pairs: Pairs, draws: Draws
) -> Ablated:
    """What closed nodes carry in these pairs, at every site of `means`.

    For kinds of an adversary the share is 1/2, where its search begins (`adversary.worst_share`).
    """
    if len(kinds) == 1 and kinds[0] in ("mean", "zero"):
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


def _where(chosen_B: jax.Array, one: Array | float, other: Array) -> jax.Array:
    """`one` for the chosen sequences; both are [..., N] or broadcast to [..., B, T, N]."""
    other = other if jnp.ndim(other) > 2 else jnp.asarray(other)[..., None, None, :]
    return jnp.where(chosen_B[:, None, None], one, other)


def _resampled(config, params, kinds, values, pairs: Pairs, draws: Draws, kind_B) -> Gates:
    """`values`, but in sequences of resampled kinds those of their donors, at aligned positions."""
    length = pairs.tokens.shape[-1]
    assert draws.tokens is not None and draws.last is not None  # drawn for these kinds
    donors_BxT, donor_last_B = draws.tokens.reshape(-1, length), jnp.ravel(jnp.asarray(draws.last))
    captured = forward(config, params, donors_BxT, Hooks(capture=tuple(values)))[1]
    place_T, last_B = jnp.arange(length), jnp.ravel(jnp.asarray(pairs.last))
    by_end = jnp.clip(place_T - last_B[:, None] + donor_last_B[:, None], 0, length - 1)
    same = jnp.minimum(place_T, donor_last_B[:, None])
    is_end_B = kind_B == (kinds.index("resample") if "resample" in kinds else -1)
    place_BxT = jnp.where(is_end_B[:, None], by_end, same)
    is_resampled_B = jnp.isin(kind_B, jnp.array([i for i, kind in enumerate(kinds) if kind in RESAMPLED]))

    def of_site(site, x):
        place = place_BxT[..., None] if x.ndim == 3 else place_BxT[None, ..., None]
        return _where(is_resampled_B, jnp.take_along_axis(x, place, axis=-2), values[site])

    return {site: of_site(site, x) for site, x in captured.items()}


def _shares(kinds, means, draws: Draws, kind_B, repeats: int) -> Gates:
    if set(kinds).isdisjoint(("stochastic", "adversarial", "adversarial_shared")):
        return {}
    is_random_B = kind_B == (kinds.index("stochastic") if "stochastic" in kinds else -1)
    starts_B = sum(
        (kind_B == kinds.index(kind)) * 0.5 for kind in ("adversarial", "adversarial_shared") if kind in kinds
    ) + jnp.zeros(len(kind_B))

    def of_site(number: int, mean):
        def one(seed):
            return jax.random.uniform(jax.random.fold_in(jax.random.key(seed), number), mean.shape)

        # members of a pair share their draw, so that packed pairs are the same as unpacked ones
        drawn = jnp.repeat(jnp.moveaxis(jax.vmap(one)(draws.seed), 0, -2), repeats, axis=-2)[..., None, :]
        return jnp.where(is_random_B[:, None, None], drawn, starts_B[:, None, None])

    return {site: of_site(number, means[site]) for number, site in enumerate(sorted(means))}
