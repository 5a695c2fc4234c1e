"""Variants of gates in one program, against each variant's gates written out."""

import dataclasses
import itertools

import numpy as np
import pytest

from sparse_jax.ablation import compiled, kept
from sparse_jax.ablation import judge as evaluate
from sparse_jax.ablation.adversary import How
from sparse_jax.ablation.objective import losses_of_logits
from sparse_jax.circuits.gates import close
from sparse_jax.circuits.ranking import number_units
from sparse_jax.inputs import InputError
from sparse_jax.tasks.encode import EncodedPairs
from tests.pruning.noisy import PAIRS, losses_of, noisy, one_layer, random_gates

CLOSED = np.array([[0, 0], [3, 60], [7, 8], [0, 5], [10, 11], [0, 100]])


def ranked(gates, seed=0):
    units = number_units(gates, tied=False)
    return units.ranks(np.random.default_rng(seed).permutation(units.count))


@pytest.mark.parametrize("edges", [False, True])
def test_losses_are_those_of_the_gates_written_out(edges):
    gates = random_gates(1, edges=edges)
    ranks = ranked({key: gates[key] for key in list(gates)[::2]})
    found = noisy().variants(gates, ranks, CLOSED)
    assert found.shape == (len(CLOSED), PAIRS)
    for row, (start, stop) in zip(found, CLOSED):
        chosen = {key: (rank >= start) & (rank < stop) for key, rank in ranks.items()}
        np.testing.assert_allclose(row, losses_of(close(gates, chosen)), atol=1e-5)
    np.testing.assert_allclose(noisy().losses(gates), found[0], atol=1e-6)
    assert np.ptp(found.mean(axis=1)) > 0.05


def test_more_variants_than_a_call_takes_and_no_variant_at_all():
    gates = random_gates(1)
    ranks = ranked(gates)
    # several units each, since there are fewer of them than variants
    start = np.arange(evaluate.VARIANTS + 4)
    many = np.stack([start // 3, start], axis=1)
    found = noisy().variants(gates, ranks, many)
    np.testing.assert_allclose(found[-5:], noisy().variants(gates, ranks, many[-5:]), atol=1e-6)
    assert np.ptp(found[-5:].mean(axis=1)) > 0.1
    assert noisy().variants(gates, ranks, many[:0]).shape == (0, PAIRS)


@pytest.mark.parametrize("confidence", [0.0, 1.64])
def test_rows_are_given_up_exactly_where_the_bound_is_above_the_limit(confidence):
    gates = random_gates(1)
    judge = dataclasses.replace(noisy(), confidence=confidence)
    closed = np.stack([np.arange(30), np.full(30, 1000)], axis=1)
    full = judge.variants(gates, ranked(gates), closed)
    limit = float(np.median(judge.bound(full)))
    found = judge.variants(gates, ranked(gates), closed, limit)
    below = judge.bound(full) <= limit
    assert 0 < below.sum() < 30
    np.testing.assert_array_equal(found[below], full[below])
    assert np.isinf(found[~below].mean(axis=1)).all()


def test_no_losses_that_are_still_unknown_lower_the_bound_that_gives_a_row_up():
    rng, judge = np.random.default_rng(0), strict("mean+resample", draws=2, confidence=1.64)
    tight = 0
    for share in (0.05, 0.4, 0.9, 1.0):
        # losses that are nearly the same are where more of them may lower the bound
        known = np.where(rng.random((200, len(judge.items.kind))) < share, rng.uniform(0.9, 1, (200, 1)), 0)
        least = judge._least_bound(known)
        for rest in (0.0, 1e-3, 0.5, 1.0, 3.0):
            drawn = np.where(known > 0, known, rest * rng.random(known.shape))
            assert (judge.bound(drawn) >= least - 1e-12).all()
        tight += (least > judge._figures(known)[0].max(axis=1)).sum()
    assert tight > 200


def test_a_loss_that_is_no_number_counts_as_infinite():
    judge = noisy()
    broken = {**judge.ablated, "mlp_in": judge.ablated["mlp_in"] * np.nan}
    gates = {**random_gates(1), "mlp_in": np.zeros((2, 6), np.float32)}
    assert np.isinf(dataclasses.replace(judge, ablated=broken).losses(gates)).all()


def test_gradients_are_finite_differences():
    gates = {key: np.float32(0.3 + 0.4 * gate) for key, gate in random_gates(2).items()}
    short = noisy().pairs.__class__(*(array[: evaluate.PAIRS] for array in noisy().pairs))
    judge = dataclasses.replace(noisy(), pairs=short)
    gradients, checked = judge.gradients(gates), 0
    for index in range(6):  # of the last nodes: no AbsTopK follows, whose choice a step could change
        sides = []
        for step in (-1e-2, 1e-2):
            moved = {**gates, "mlp_out": gates["mlp_out"].copy()}
            moved["mlp_out"][1, index] += step
            sides.append(judge.losses(moved).mean())
        gradient = gradients["mlp_out"][1, index]
        checked += abs(gradient) > 1e-2
        assert gradient == pytest.approx((sides[1] - sides[0]) / 2e-2, abs=1e-3, rel=0.05)
    assert checked >= 3


KINDS = ("mean", "zero", "resample", "resample_position", "resample_text", "stochastic")
_ALIKE = ("zero", "resample_position", "resample_text")
SOME = [pytest.param(kind, marks=[pytest.mark.slow] if kind in _ALIKE else []) for kind in KINDS]
TEXT = np.random.default_rng(5).integers(1, 12, (7, 8)).astype(np.int32)


def strict(ablation, **given):
    return dataclasses.replace(noisy(), ablation=ablation, text=TEXT, seed=3, **given)


def test_items_are_every_pair_under_every_kind_and_draw():
    judge = strict("mean+resample+stochastic", draws=2)
    items = judge.items
    assert len(items.kind) == PAIRS * 5 == len(judge.candidates)
    rows = list(zip(items.pair, items.kind))
    assert all(rows.count((pair, kind)) == (1 if kind == 0 else 2) for pair, kind in set(rows))


@pytest.mark.parametrize("kind", SOME)
def test_losses_of_several_kinds_are_those_of_each_alone(kind):
    gates = random_gates(1)
    kinds = tuple(dict.fromkeys(("mean", "resample", "stochastic", kind)))
    together, alone = strict("+".join(kinds)), strict(kind)
    losses = together.losses(gates)
    own = losses[together.items.kind == kinds.index(kind)]
    np.testing.assert_allclose(own, alone.losses(gates), atol=1e-5)
    mean, error = together.by_kind(losses)[kind]
    assert mean == pytest.approx(own.mean()) and error == pytest.approx(own.std(ddof=1) / PAIRS**0.5)


def test_the_worst_kind_decides_with_its_error_added_and_a_row_above_the_limit_under_one_kind_is_given_up():
    gates, judge = random_gates(1), strict("mean+resample+zero", draws=2)
    found = judge.by_kind(judge.losses(gates))
    worst = max(found.values())
    assert len({round(mean, 3) for mean, _ in found.values()}) == 3
    assert judge.summary(judge.losses(gates)) == worst
    careful = dataclasses.replace(judge, confidence=2.0)
    assert judge.bound(judge.losses(gates)[None])[0] == pytest.approx(worst.mean)
    assert careful.bound(careful.losses(gates)[None])[0] == pytest.approx(
        max(mean + 2 * error for mean, error in found.values())
    )
    none = np.zeros((1, 2), np.int32)
    assert np.isinf(judge.variants(gates, {}, none, worst.mean - 1e-3)).any()
    assert np.isfinite(judge.variants(gates, {}, none, worst.mean + 1e-3)).all()


def test_hardest_first_begins_with_the_worst_kind_and_keeps_every_items_draw():
    gates, judge = random_gates(1), strict("stochastic+resample", draws=2)
    before, _ = judge.hardest_first(judge.losses(random_gates(2)))
    other, falling = before.hardest_first(before.losses(gates))
    losses, kind = other.losses(gates), other.items.kind
    np.testing.assert_allclose(falling, losses, atol=1e-5)
    means = [losses[kind == number].mean() for number in range(2)]
    assert means[0] < means[1] and (np.diff(kind) <= 0).all() and set(judge.items.kind[:PAIRS]) == {0}
    assert all((np.diff(losses[kind == number]) <= 1e-5).all() for number in range(2))
    np.testing.assert_allclose(np.sort(losses), np.sort(judge.losses(gates)), atol=1e-5)
    assert other.by_kind(losses)["resample"].mean == pytest.approx(
        judge.by_kind(judge.losses(gates))["resample"].mean
    )


@pytest.mark.slow
def test_an_adversary_does_more_harm_than_any_constant_share_and_alone_more_than_together():
    gates = random_gates(1)
    judges = {kind: strict(kind) for kind in ("adversarial", "adversarial_shared", "stochastic", "mean")}
    losses = {kind: judge.losses(gates).mean() for kind, judge in judges.items()}
    assert losses["adversarial"] > losses["adversarial_shared"] > max(losses["mean"], losses["stochastic"])
    # closed nodes alone are the adversary's: with all open it can do nothing
    opened = {site: np.ones_like(gate) for site, gate in gates.items()}
    np.testing.assert_allclose(judges["adversarial"].losses(opened), judges["mean"].losses(opened), atol=1e-5)


@pytest.mark.parametrize("kind", [pytest.param("adversarial", marks=pytest.mark.slow), "adversarial_shared"])
def test_gates_have_gradients_under_an_adversary_although_its_choice_has_none(kind):
    """AbsTopK has no second derivative, which differentiating the adversary's ascent would need."""
    gradients = one_layer(strict(kind)).gradients({site: gate[:1] for site, gate in random_gates(1).items()})
    assert noisy().config.activation_fraction is not None
    assert all(np.isfinite(gradient).all() for gradient in gradients.values())
    assert any(np.abs(gradient).max() > 1e-3 for gradient in gradients.values())


@pytest.mark.parametrize("kind", ["resample", pytest.param("adversarial_shared", marks=pytest.mark.slow)])
def test_a_node_without_open_edges_is_as_one_that_is_closed(kind):
    opened = {site: np.ones_like(gate) for site, gate in random_gates(1, edges=True).items()}
    nodes = {site: gate.copy() for site, gate in opened.items()}
    edges = {site: gate.copy() for site, gate in opened.items()}
    for source in ("attn_in", "v", "mlp_in", "mlp_neuron"):
        nodes[source][:, 1:3] = 0
        for key in edges:
            if key.startswith(f"{source}->"):
                edges[key][:, 1:3] = 0
    judge = strict(kind)
    found, expected = judge.losses(edges), judge.losses(nodes)
    np.testing.assert_allclose(found, expected, atol=1e-4)
    assert np.abs(found - judge.losses(opened)).max() > 1e-2


def test_the_full_model_is_judged_by_the_program_of_its_circuits_logits():
    judge, gates = strict("mean+resample"), random_gates(1)
    opened = {site: np.ones_like(gate) for site, gate in gates.items()}
    judge.logits(gates)
    program = compiled.logits(How(judge.config))
    of_variants = compiled.variants(How(judge.config), 1)
    before, unused = program._cache_size(), of_variants._cache_size()
    full = judge.full_losses(opened)
    assert program._cache_size() == before > 0 and of_variants._cache_size() == unused
    np.testing.assert_allclose(full, judge.losses({}), atol=1e-5)
    np.testing.assert_allclose(judge.full_logits(opened), judge.logits({}), atol=1e-4)
    # without gates there is nothing to ablate, which is another program
    assert program._cache_size() > before
    assert np.abs(judge.full_losses(opened) - judge.losses(gates)).max() > 1e-2


def test_kinds_that_differ_in_what_nodes_carry_alone_share_their_programs():
    gates = {site: gate[:1] for site, gate in random_gates(1).items()}
    kinds = ("mean", "zero", "resample", "resample_position", "resample_text")
    judges = [one_layer(strict(kind)) for kind in kinds]
    # another model than in other tests
    config = dataclasses.replace(judges[0].config, context=12)
    found = [dataclasses.replace(judge, config=config).logits(gates) for judge in judges]
    # constants of nodes are another form than values by token
    assert compiled.logits(How(config))._cache_size() == 2
    resampling = {compiled.drawing(config, kind) for kind in kinds[2:]}
    assert [program._cache_size() for program in resampling] == [1]
    assert all(np.abs(one - other).max() > 1e-2 for one, other in itertools.combinations(found, 2))


@pytest.mark.parametrize("kind", ["mean", "resample"])
def test_splits_of_several_lengths_share_the_program_of_their_logits(kind):
    pairs, gates = noisy().pairs, {site: gate[:1] for site, gate in random_gates(1).items()}
    config = dataclasses.replace(noisy().config, context=32)
    program = compiled.logits(How(dataclasses.replace(one_layer(noisy()).config, context=32)))
    before, lengths = program._cache_size(), set()
    for beginning in (9, 17):
        tokens = np.pad(pairs.tokens, ((0, 0), (0, 0), (beginning, 0)), constant_values=3)
        longer = pairs._replace(tokens=tokens, last=pairs.last + beginning)
        judge = one_layer(dataclasses.replace(strict(kind), config=config, pairs=longer))
        found = losses_of_logits(judge.logits(gates), judge.candidates, "binary")
        np.testing.assert_allclose(found, judge.losses(gates), atol=1e-5)
        lengths.add(judge.items.pairs.tokens.shape[1])
    assert lengths == {24, 32} and program._cache_size() == before + 1


def test_donors_run_once_for_all_gates_while_there_is_room(monkeypatch):
    runs, drawing = [], compiled.drawing

    def counting(*given):
        return lambda *arguments: runs.append(given) or drawing(*given)(*arguments)

    monkeypatch.setattr(compiled, "drawing", counting)
    judge = strict("mean+resample", draws=2)
    first, second = judge.losses(random_gates(1)), judge.losses(random_gates(2))
    batches = len(list(judge.items.batches(evaluate.PAIRS)))
    assert len(runs) == batches and {kind for _, kind in runs} == {"mean", "resample"}
    monkeypatch.setattr(kept, "BYTES", 0)
    without = dataclasses.replace(judge)
    np.testing.assert_array_equal(without.losses(random_gates(1)), first)
    np.testing.assert_array_equal(without.losses(random_gates(2)), second)
    assert len(runs) == 3 * batches and np.abs(first - second).max() > 1e-2


def test_what_does_not_fit_an_ablation_is_named():
    one = EncodedPairs(*(array[:1] for array in noisy().pairs))
    with pytest.raises(InputError, match="pairs: 1 is not valid; valid: at least 2"):
        dataclasses.replace(noisy(), pairs=one, ablation="resample")
    with pytest.raises(InputError, match=r"text: \(7, 4\) is not valid; valid: windows of training text"):
        dataclasses.replace(noisy(), ablation="resample_text", text=TEXT[:, :4])


def test_other_constants_and_another_order_draw_nothing_again(monkeypatch):
    judge, gates = strict("stochastic+resample", draws=2), random_gates(1)
    constant = np.full(gates["mlp_neuron"].shape, np.nan, np.float32)
    constant[gates["mlp_neuron"] == 0] = 3
    own = dataclasses.replace(judge, constants={"mlp_neuron": constant})
    expected, before = own.losses(gates), judge.losses(gates)
    monkeypatch.setattr(evaluate, "draw_pairs", None)
    held = judge.holding({"mlp_neuron": constant})
    np.testing.assert_array_equal(held.losses(gates), expected)
    assert np.abs(expected - before).max() > 1e-2
    assert judge.holding({}) is judge and held.holding({"mlp_neuron": constant.copy()}) is held
    np.testing.assert_array_equal(held.holding({}).losses(gates), before)
    quick, falling = held.hardest_first(expected)
    np.testing.assert_allclose(quick.losses(gates), falling, atol=1e-5)
