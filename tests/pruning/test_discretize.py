"""The smallest passing k against every k evaluated by hand, where the loss is not monotone."""

import dataclasses
import functools

import numpy as np
import pytest

from sparse_jax.ablation.judge import PAIRS, VARIANTS, Judge
from sparse_jax.circuits.edges import count_edges
from sparse_jax.circuits.gates import only_between_open
from sparse_jax.circuits.ranking import number_units
from sparse_jax.model import sites
from sparse_jax.pruning import discretize as discretize_module
from sparse_jax.pruning.discretize import LaneCurves, discretize, discretize_many, sizes_to_try
from tests.pruning.noisy import CONFIG, losses_of, noisy, random_gates

SHAPES = sites.node_shapes(CONFIG, sites.LAYER_SITES)


def scores_of(seed, tied=False):
    rng = np.random.default_rng(seed)
    return {site: rng.normal(size=shape) for site, shape in SHAPES.items() if not (tied and site == "k")}


def prefix(scores, k, fixed=None, eligible=None):
    """The k best-ranked of a plain sort over (score, name, place), tied channels together."""
    eligible = eligible or {key: np.ones(np.shape(score)) for key, score in scores.items()}
    places = [(key, place) for key in sorted(eligible) for place in np.argwhere(eligible[key])]
    places.sort(key=lambda one: -scores[one[0]][tuple(one[1])])
    gates = {key: np.zeros(SHAPES[key], np.float32) for key in SHAPES} if fixed is None else dict(fixed)
    for number, (key, place) in enumerate(places):
        gates[key] = gates[key].copy()
        gates[key][tuple(place)] = number < k
    return {**gates, "k": gates["q"]} if "q" in scores and "k" not in scores else gates


def curve(scores, ks, **options):
    return np.array([losses_of(prefix(scores, k, **options)).mean() for k in ks])


@functools.cache
def whole_curve(seed, tied=False):
    """The loss of every size, from no node to all, by `scores_of` the same."""
    scores = scores_of(seed, tied)
    return curve(scores, range(sum(score.size for score in scores.values()) + 1))


@pytest.mark.parametrize("tied", [False, True])
def test_the_smallest_passing_k_for_each_target_from_one_curve(tied):
    scores = scores_of(2, tied)
    losses = whole_curve(2, tied)
    falls, rises = np.diff(losses) < -1e-3, np.diff(losses) > 1e-3
    assert falls.any() and rises.any()
    records = np.flatnonzero(losses < np.minimum.accumulate(np.append(np.inf, losses))[:-1])
    assert len(records) > 3
    # between two losses, so that rounding decides nothing
    targets = [float(losses[records[i - 1 : i + 1]].mean()) for i in (1, len(records) - 1, 2)]
    found = discretize_many(noisy(), scores, targets)
    for target, one in zip(targets, found):
        assert one.reached and one.k == np.flatnonzero(losses <= target)[0]
        per_pair = losses_of(prefix(scores, one.k))
        assert one.loss == pytest.approx(per_pair.mean(), abs=1e-5)
        assert one.standard_error == pytest.approx(per_pair.std(ddof=1) / len(per_pair) ** 0.5, abs=1e-5)
        for site, gate in prefix(scores, one.k).items():
            np.testing.assert_array_equal(one.gates[site], gate, err_msg=site)
    assert [one.k for one in found] == [records[1], records[-1], records[2]]


def test_a_target_that_nothing_reaches_gets_the_lowest_loss(monkeypatch):
    monkeypatch.setattr(discretize_module, "COARSE", 1)
    scores = scores_of(2)
    losses = whole_curve(2)
    for targets in ((0.01,), (0.01, float(np.median(losses)))):
        missed = discretize_many(noisy(), scores, targets)[0]
        assert not missed.reached and missed.k == np.argmin(losses)
        assert missed.loss == pytest.approx(losses.min(), abs=1e-5)


@pytest.mark.parametrize("seed, is_beside, is_lowest", [(0, True, True), (1, False, False)])
def test_a_target_that_nothing_reaches_gets_the_lowest_loss_of_few_sizes(
    monkeypatch, seed, is_beside, is_lowest
):
    """Of every third size and the last, and of those beside the best."""
    monkeypatch.setattr(discretize_module, "COARSE", 3)
    losses = whole_curve(seed)
    coarse = [*range(0, len(losses), 3), len(losses) - 1]
    best = min(coarse, key=losses.__getitem__)
    around = range(best - 2, min(best + 3, len(losses)))
    expected = min(around, key=losses.__getitem__)
    assert (expected not in coarse) == is_beside and (expected == np.argmin(losses)) == is_lowest
    (missed,) = discretize_many(noisy(), scores_of(seed), (0.01,))
    assert not missed.reached and missed.k == expected
    assert missed.loss == pytest.approx(losses[expected], abs=1e-5)


def test_several_targets_that_nothing_reaches_cost_no_more_than_one(monkeypatch):
    """Every k of a lane is followed until it misses, and few to the end, for all targets together."""
    scores, evaluated, variants = scores_of(2), [], Judge.variants

    def counted(self, gates, ranks, closed, *limit):
        evaluated.append(len(closed))
        return variants(self, gates, ranks, closed, *limit)

    monkeypatch.setattr(Judge, "variants", counted)
    units = sum(score.size for score in scores.values()) + 1
    found = LaneCurves(noisy(), [scores]).best((0.01, 0.02, 0.03))
    assert (
        not any(choice.found.reached for choice in found) and len({choice.found.k for choice in found}) == 1
    )
    coarse = discretize_module.COARSE
    assert sum(evaluated) <= units + units // coarse + 2 * coarse + VARIANTS < 1.6 * units


def test_only_what_is_eligible_is_ranked_and_the_rest_stays_fixed():
    fixed = random_gates(5, edges=True)
    eligible = {
        key: (np.random.default_rng(1).random(shape) < 0.2) * 1.0
        for key, shape in sites.edge_shapes(CONFIG).items()
    }
    scores = {key: np.random.default_rng(2).normal(size=gate.shape) for key, gate in eligible.items()}
    losses = curve(scores, range(0, 40), fixed=fixed, eligible=eligible)
    # between two losses, so that rounding decides nothing
    target = float(losses.min() + losses[losses > losses.min() + 1e-3].min()) / 2
    found = discretize(noisy(), scores, target, fixed, eligible)
    assert found.k == np.flatnonzero(losses <= target)[0] > 0
    for key, gate in only_between_open(prefix(scores, found.k, fixed, eligible)).items():
        np.testing.assert_array_equal(found.gates[key], gate, err_msg=key)
    assert found.loss == pytest.approx(losses[found.k], abs=1e-5)
    with pytest.raises(KeyError):
        discretize(noisy(), scores, target, {}, eligible)


def test_strides_grow_by_their_share_and_never_miss_the_ends():
    assert sizes_to_try(5, 0.0).tolist() == [0, 1, 2, 3, 4, 5]
    assert sizes_to_try(9, 0.5).tolist() == [0, 1, 2, 3, 4, 6, 9]
    sizes = sizes_to_try(2000, 0.05)
    assert sizes[-1] == 2000 and (np.diff(sizes)[:-1] <= np.maximum(1, 0.05 * sizes[1:-1])).all()
    assert len(sizes) < 140
    assert sizes_to_try(9, 0.5, 5).tolist() == [0, 1, 2, 3, 4, 5, 7, 9]
    assert sizes_to_try(3, 0.5, 5).tolist() == [0, 1, 2, 3]


def test_beyond_twice_what_a_lane_leaves_open_sizes_are_near_the_smallest(monkeypatch):
    """A target that no size reaches does not cost a run of every size there is."""
    monkeypatch.setattr(discretize_module, "EXACT_UP_TO", 8)
    monkeypatch.setattr(discretize_module, "GROWTH", 1 / 4)
    monkeypatch.setattr(discretize_module, "COARSE", 1)
    scores = {site: score - 100 for site, score in scores_of(2).items()}
    units = sum(score.size for score in scores.values())
    sizes = sizes_to_try(units, 1 / 4, 8)
    losses = curve(scores, sizes)
    (missed,) = LaneCurves(noisy(), [scores]).best([0.001])
    assert not missed.found.reached and missed.found.k == sizes[np.argmin(losses)]
    assert missed.found.loss == pytest.approx(losses.min(), abs=1e-5)
    places = np.flatnonzero(losses < np.minimum.accumulate(np.append(np.inf, losses))[:-1])
    target = float(losses[places[-2:]].mean())
    (found,) = LaneCurves(noisy(), [scores]).best([target])
    assert found.found.reached and found.found.k == sizes[places[-1]] > 8
    # with gates that stay open, every size up to twice their number is tried
    half = {site: score - np.median(score) for site, score in scores_of(2).items()}
    (exact,) = LaneCurves(noisy(), [half]).best([target])
    assert exact.found.k == discretize(noisy(), half, target).k


def work_of(function, scores, targets):
    """What `function` finds, and how many variants it ran on a batch of pairs for it."""
    run = 0

    class Counting(type(noisy())):
        def _run(self, gates, ranks, closed, *batch):
            nonlocal run
            run += len(closed)
            return super()._run(gates, ranks, closed, *batch)

    judge = Counting(**{f.name: getattr(noisy(), f.name) for f in dataclasses.fields(noisy())})
    return function(judge, scores, targets), run


def test_what_misses_a_target_is_run_on_no_more_pairs_than_show_it(one_width, monkeypatch):
    monkeypatch.setattr(discretize_module, "VARIANTS", 2)
    scores = scores_of(2)
    losses = whole_curve(2)
    strict, loose = float(np.sort(losses)[:2].mean()), float(losses.max() + 1)
    both, work = work_of(discretize_many, scores, (loose, strict))
    alone, least = work_of(discretize_many, scores, (strict,))
    assert [one.k for one in both] == [0, alone[0].k] and alone[0].k > 20
    batches = -(-len(noisy().pairs.tokens) // PAIRS)
    assert work <= least + 2 * batches < batches * alone[0].k


def best_of_lanes(judge, lanes, targets):
    return LaneCurves(judge, lanes).best(targets)


def one_after_another(judge, scores, targets):
    """What the curves of one lane give if they are asked once for each target."""
    curves = LaneCurves(judge, [scores])
    return [curves.best((target,))[0].found for target in targets]


def test_a_stricter_target_goes_on_where_the_last_one_ended(one_width):
    scores = scores_of(2)
    losses = whole_curve(2)
    records = np.flatnonzero(losses < np.minimum.accumulate(np.append(np.inf, losses))[:-1])
    falling = [float(losses[records[i - 1 : i + 1]].mean()) for i in range(1, len(records))]
    found, work = work_of(one_after_another, scores, falling)
    assert [one.k for one in found] == records[1:].tolist()
    assert work <= work_of(discretize_many, scores, falling)[1]
    # a looser one starts again, and finds what it would have found alone
    again, _ = work_of(one_after_another, scores, [falling[-1], falling[0]])
    assert [one.k for one in again] == [records[-1], records[1]]


@pytest.mark.slow
def test_the_best_lane_has_the_fewest_edges_and_the_others_are_not_followed_much_further(monkeypatch):
    monkeypatch.setattr(discretize_module, "VARIANTS", 2)
    lanes = [scores_of(seed, tied=True) for seed in range(4)]
    total = number_units({key: np.ones(np.shape(score)) for key, score in lanes[0].items()}, True).count
    losses = [whole_curve(seed, tied=True) for seed in range(4)]
    ordered = np.sort(np.concatenate(losses))
    targets = [float(ordered[i : i + 2].mean()) for i in (60, 12, 4)]
    # the lane that needs most comes first by its own gates, none of which is open
    worst = int(np.argmax([np.argmax(np.append(lane, 0) <= targets[-1]) for lane in losses]))
    lanes[worst] = {site: score - 100 for site, score in lanes[worst].items()}
    found, work = work_of(best_of_lanes, lanes, targets)
    for target, choice in zip(targets, found):
        edges = {}
        for lane, scores in enumerate(lanes):
            passing = np.flatnonzero(losses[lane] <= target)
            if len(passing):
                edges[lane] = count_edges(noisy().params, prefix(scores, int(passing[0])))
        assert choice.found.reached and choice.edges == min(edges.values()) == edges[choice.lane]
        assert choice.edges == count_edges(noisy().params, choice.found.gates)
    strictest = found[int(np.argmin(targets))].edges
    prefixes = [[prefix(scores, k) for k in range(total + 1)] for scores in lanes]
    edges_LxK = np.array([[count_edges(noisy().params, gates) for gates in lane] for lane in prefixes])
    batches = -(-len(noisy().pairs.tokens) // PAIRS)
    assert work <= batches * sum((edges_LxK <= 1.5 * strictest).sum(axis=1) + 2)
    assert work < sum(work_of(discretize_many, scores, targets)[1] for scores in lanes)
    monkeypatch.setattr(discretize_module, "COARSE", 1)
    missed = LaneCurves(noisy(), lanes).best([0.001])[0]
    assert not missed.found.reached and missed.found.loss == pytest.approx(ordered[0], abs=1e-5)
