"""What closed nodes carry under every kind of ablation."""

import functools

import jax
import numpy as np
import pytest

from sparse_jax.ablation import draws
from sparse_jax.ablation.draws import Draws, draw_ablated, draw_pairs, joined
from sparse_jax.ablation.kinds import ABLATIONS, kinds_of
from sparse_jax.ablation.objective import last_logits
from sparse_jax.circuits.gates import partly_open
from sparse_jax.inputs import InputError
from sparse_jax.model import sites
from sparse_jax.model.config import ModelConfig
from sparse_jax.model.forward import initialize
from sparse_jax.model.hooks import Hooks
from sparse_jax.tasks.encode import EncodedPairs
from sparse_jax.tasks.packing import pack_pairs
from tests.compiled import forward

pytestmark = pytest.mark.accelerator

CONFIG = ModelConfig(vocab_size=20, context=8, n_layers=2, d_model=8, d_head=4)
PAIRS = 5
LAST = np.array([[7, 7], [3, 7], [5, 2], [4, 4], [6, 5]], np.int32)
TEXT = np.arange(60, dtype=np.int32).reshape(6, 10) % 19 + 1


@pytest.fixture(scope="module")
def model():
    """Parameters, pairs, means and the full model's values."""
    params = jax.device_get(initialize(CONFIG, jax.random.key(0)))
    params = jax.device_put(jax.tree.map(lambda x: 10 * x if x.ndim > 2 else x, params))
    rng = np.random.default_rng(0)
    tokens = rng.integers(1, 20, (PAIRS, 2, 8)).astype(np.int32)
    pairs = EncodedPairs(tokens, LAST, np.tile(np.array([[4, 5], [5, 4]], np.int32), (PAIRS, 1, 1)))
    shapes = sites.node_shapes(CONFIG)
    means = {site: rng.normal(size=shape).astype(np.float32) for site, shape in shapes.items()}
    return params, pairs, means


def drawn(model, kind, number=0, seed=0, rows=range(PAIRS), packed=False):
    """The draws of some pairs, and what their closed nodes carry."""
    params, pairs, means = model
    rows = np.array(rows)
    given = pack_pairs(pairs) if packed else pairs
    return jax.device_get(_draw(kind)(params, given, means, rows, np.full(len(rows), number), seed))


@functools.cache
def _draw(kind):
    @jax.jit
    def run(params, pairs, means, rows, number_P, seed):
        draws = draw_pairs(kind, pairs, rows, number_P, seed, TEXT)
        return draws, draw_ablated(CONFIG, params, kind, means, chosen(pairs, rows), draws)

    return run


def chosen(pairs, rows):
    return jax.tree.map(lambda array: array[rows], pairs)


def captured(model, tokens_BxT):
    return jax.device_get(_capture(model[0], tokens_BxT))


@jax.jit
def _capture(params, tokens_BxT):
    return forward(CONFIG, params, tokens_BxT, Hooks(capture=sites.NODE_SITES))[1]


@pytest.mark.parametrize("kind", ["resample", "resample_position"])
@pytest.mark.parametrize("packed", [False, True])
def test_resampled_values_are_those_of_a_member_of_another_pair_aligned_as_said(model, kind, packed):
    pairs = model[1]
    donors, full = set(), captured(model, pairs.tokens.reshape(-1, 8))
    given = pack_pairs(pairs) if packed else pairs
    for number in range(8):
        ablated = drawn(model, kind, number, packed=packed)[1]
        for pair in range(PAIRS):
            for member in (0, 1):
                own_last = LAST[pair, member]
                # where this member's own text stands among the tokens that were run
                places = np.arange(own_last + 1)
                row = pair if packed else 2 * pair + member
                if packed and member:
                    shared, middle = given.shared[pair], given.middle[pair]
                    places = np.where(places >= shared, places + middle - shared, places)
                    checked = places[shared:], np.arange(own_last + 1)[shared:]
                else:
                    checked = places, np.arange(own_last + 1)
                donor = _donor(full, ablated.values, row, *checked, own_last, kind)
                assert donor is not None and donor // 2 != pair
                donors.add((pair, donor))
    assert len(donors) > 15 and not ablated.share


def _donor(full, values, row, places, own, own_last, kind):
    """The one sequence whose values stand there at every site, or None."""
    for donor in range(2 * PAIRS):
        end = LAST.ravel()[donor]
        wanted = np.clip(own - own_last + end, 0, None) if kind == "resample" else np.minimum(own, end)
        if all(
            np.allclose(values[site][..., row, places, :], x[..., donor, wanted, :], atol=1e-5)
            for site, x in full.items()
        ):
            return donor
    return None


def test_values_from_text_are_those_of_a_passage_at_the_same_positions(model):
    draws, ablated = drawn(model, "resample_text")
    tokens = np.asarray(draws.donor.tokens)
    passages = {tuple(window[start : start + 8]) for window in TEXT for start in range(3)}
    assert set(map(tuple, tokens)) <= passages and len(set(map(tuple, tokens))) > 3
    for site, x in captured(model, tokens).items():
        np.testing.assert_allclose(ablated.values[site], np.repeat(x, 2, axis=-3), atol=1e-5)


def test_a_draw_depends_on_pair_number_and_seed_alone(model):
    first, again = drawn(model, "resample")[0], drawn(model, "resample", rows=[3, 1])[0]
    np.testing.assert_array_equal(np.asarray(first.donor.tokens)[[3, 1]], again.donor.tokens)
    np.testing.assert_array_equal(np.asarray(first.seed)[[3, 1]], again.seed)
    for changed in ({"number": 1}, {"seed": 1}):
        other = drawn(model, "resample", **changed)[0]
        assert not np.array_equal(other.seed, first.seed)
        assert not np.array_equal(other.donor.tokens, first.donor.tokens)


def test_a_draw_compiles_for_no_more_than_its_kind_needs(model, monkeypatch):
    pairs, rows, drawing = model[1], np.arange(2), draws._draw
    # whether it is given pairs, and text
    needs = {"stochastic": (False, False), "resample": (True, False), "resample_text": (True, True)}
    given = []
    monkeypatch.setattr(draws, "_draw", lambda *them: given.append(them) or drawing(*them))
    for kind in ("mean", "zero", "adversarial"):
        np.testing.assert_array_equal(draw_pairs(kind, pairs, rows, rows, 0, TEXT).seed, [0, 0])
    assert not given
    for kind, expected in needs.items():
        draw_pairs(kind, pairs, rows, rows, 0, TEXT)
        assert (given[-1][0] is not None, given[-1][-1] is not None) == expected
    before = drawing._cache_size()
    draw_pairs("resample_position", pairs, rows, rows, 0, TEXT)
    assert drawing._cache_size() == before  # the program of "resample"


@pytest.mark.parametrize("seed", [0, 2**31 + 5, 2**40 + 5])
def test_a_draw_s_seed_is_made_of_the_key_of_any_seed(model, seed):
    _, pairs, _ = model
    found = draw_pairs("stochastic", pairs, np.array([4, 2]), np.array([7, 0]), seed)
    for row, number, bits in zip((4, 2), (7, 0), np.asarray(found.seed)):
        key = jax.random.fold_in(jax.random.fold_in(jax.random.key(seed), row), number)
        assert bits == jax.random.bits(key, dtype=np.uint32)
    assert len(np.unique(found.seed)) == 2


def test_stochastic_shares_are_uniform_by_node_and_pair_and_the_same_for_packed_pairs(model):
    params, pairs, means = model
    draws, ablated = drawn(model, "stochastic")
    packed_draw = jax.jit(lambda *given: draw_ablated(CONFIG, params, "stochastic", means, *given))
    packed = jax.device_get(packed_draw(pack_pairs(pairs), draws))
    shares = []
    for site, mean in means.items():
        share = ablated.share[site]
        assert share.shape == (*mean.shape[:-1], 2 * PAIRS, 1, mean.shape[-1])
        np.testing.assert_array_equal(share[..., ::2, :, :], share[..., 1::2, :, :])
        np.testing.assert_array_equal(packed.share[site], share[..., ::2, :, :])
        np.testing.assert_array_equal(ablated.values[site], mean)
        shares.append(share[..., ::2, :, :].ravel())
    shares = np.concatenate(shares)
    assert len(np.unique(shares)) > 0.99 * len(shares) and shares.min() >= 0 and shares.max() <= 1
    assert abs(shares.mean() - 0.5) < 0.02 and abs(shares.var() - 1 / 12) < 0.01


def test_gates_of_a_share_let_that_much_of_the_own_value_through(model):
    params, pairs, means = model
    _, ablated = drawn(model, "stochastic")
    gates = {"mlp_out": np.float32([[0] * 4 + [1] * 4, [1] * 8])}
    opened = partly_open(gates, ablated.share)
    tokens = pairs.tokens.reshape(-1, 8)
    hooks = Hooks(opened, {"mlp_out": means["mlp_out"]}, capture=("mlp_out",))
    found = np.asarray(forward(CONFIG, params, tokens, hooks)[1]["mlp_out"])
    own = np.asarray(forward(CONFIG, params, tokens, Hooks(capture=("mlp_out",)))[1]["mlp_out"])
    share = ablated.share["mlp_out"][0]
    expected = share * own[0] + (1 - share) * means["mlp_out"][0]
    np.testing.assert_allclose(found[0, ..., :4], expected[..., :4], atol=1e-5)
    np.testing.assert_allclose(found[0, ..., 4:], own[0, ..., 4:], atol=1e-5)


@pytest.mark.parametrize("kinds", [ABLATIONS[:5], ABLATIONS[5:], ("mean", "stochastic"), ("zero", "mean")])
def test_groups_of_pairs_have_together_what_each_has_alone(model, kinds):
    _, pairs, means = model
    rows = np.array_split(np.arange(PAIRS), len(kinds))
    groups = [chosen(pairs, some) for some in rows]
    parts = [of_members(drawn(model, kind)[1], some) for kind, some in zip(kinds, rows)]
    if not set(kinds) & {"zero", "resample", "resample_position", "resample_text"}:
        parts = [part._replace(values=means) for part in parts]  # one object, as in one program
    together = joined(parts, groups)
    for site, mean in means.items():
        whole = (*mean.shape[:-1], 2 * PAIRS, 8, mean.shape[-1])
        found = np.broadcast_to(_by_sequence(together.values[site]), whole)
        for some, alone in zip(rows, parts):
            if not len(some):
                continue
            members = slice(2 * some[0], 2 * some[-1] + 2)
            np.testing.assert_array_equal(
                found[..., members, :, :],
                np.broadcast_to(_by_sequence(alone.values[site]), found[..., members, :, :].shape),
            )
            assert bool(together.share) == any(part.share for part in parts)
            if together.share:
                found_share = together.share[site][..., members, :, :]
                share = alone.share[site] if alone.share else 0.0
                np.testing.assert_array_equal(found_share, np.broadcast_to(share, found_share.shape))


def of_members(ablated, rows):
    """What the members of these pairs, which follow each other, have of what all pairs have."""
    members = slice(2 * rows[0], 2 * rows[-1] + 2) if len(rows) else slice(0)
    return jax.tree.map(lambda x: x[..., members, :, :] if x.ndim > 2 else x, ablated)


def _by_sequence(value):
    return value if np.ndim(value) > 2 else np.asarray(value)[..., None, None, :]


def test_zero_is_zero_and_the_mean_is_the_mean(model):
    means = model[2]
    assert not any(np.any(x) for x in drawn(model, "zero")[1].values.values())
    assert draw_ablated(CONFIG, model[0], "mean", means, model[1], Draws(0)).values is means


def test_closed_nodes_take_the_value_of_their_own_token(model):
    params, pairs, means = model
    draws, ablated = drawn(model, "resample_position")
    gates = {site: np.zeros_like(mean) for site, mean in means.items()}

    @jax.jit
    def logits_of(gates):
        return last_logits(CONFIG, params, gates, ablated.values, pairs).reshape(2 * PAIRS, -1)

    # with all of the last residual stream from elsewhere, so are the logits, but for the bigram table
    found = np.asarray(logits_of(gates))
    last, tokens = LAST.ravel(), pairs.tokens.reshape(-1, 8)
    bigram = np.asarray(params["bigram"]["kernel"])
    donors, ends = np.repeat(draws.donor.tokens, 2, axis=0), np.repeat(draws.donor.last, 2)
    whole = np.asarray(forward(CONFIG, params, donors)[0])
    for i in range(2 * PAIRS):
        at = min(last[i], ends[i])
        expected = whole[i, at] - bigram[donors[i, at]] + bigram[tokens[i, last[i]]]
        np.testing.assert_allclose(found[i], expected, atol=1e-4)
    # a gate in the last layer's attention, whose output is computed at one position only
    one = {"attn_out": np.float32([[1] * 8, [0] * 8])}
    patched = np.asarray(logits_of(one))
    hooks = Hooks(one, {"attn_out": ablated.values["attn_out"]}, capture=("attn_out",))
    everywhere = np.asarray(forward(CONFIG, params, tokens, hooks)[0])
    np.testing.assert_allclose(patched, everywhere[np.arange(2 * PAIRS), last], atol=1e-4)


def test_unknown_and_doubled_kinds_are_named():
    with pytest.raises(InputError, match=r"ablation: 'resampel' .*did you mean 'resample'"):
        kinds_of("ablation", "mean+resampel")
    with pytest.raises(InputError, match="each kind once"):
        kinds_of("ablation", "mean+mean")
