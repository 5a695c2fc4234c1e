"""Lanes that drop gates while they are trained."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sparse_jax.circuits.gates import tie
from sparse_jax.inputs import InputError
from sparse_jax.model import sites
from sparse_jax.model.config import ModelConfig
from sparse_jax.pruning import drop as rules
from sparse_jax.pruning import lanes as engine
from sparse_jax.pruning.config import PruneConfig
from sparse_jax.pruning.lanes import make_lanes, optimize_gates
from tests.planted import CONFIG as PLANTED
from tests.planted import planted_gates, planted_pairs, planted_params


def test_a_gate_is_dropped_that_could_hardly_come_back():
    # 100 steps at a rate of 0.08, after 50: (50 + 49 + ... + 1) / 100 * 0.08 is about 1, of which a quarter
    logits = {"q": np.float32([[-0.26, -0.24, 0.3], [-0.26, -0.51, np.nan]])}
    found = rules.still_alive(logits, np.float32([0.08, 0.16]), 50, 100)
    assert found["q"].tolist() == [[False, True, True], [True, False, True]]
    assert not rules.still_alive(logits, np.float32([0.08, 0.16]), 100, 100)["q"][:, 0].any()


def test_a_lane_is_narrowed_as_far_as_its_widest_layer_has_room():
    """16 channels, 8 heads and 32 neurons have an eighth of 2, 1 and 4, and a quarter of 4, 2 and 8."""
    config = ModelConfig(vocab_size=8, context=8, n_layers=2, d_model=16, d_head=2, d_mlp=32)
    cases = [
        ({"attn_in": 2, "q": 2, "mlp_in": 2, "mlp_neuron": 4}, 8),
        ({"mlp_neuron": 5}, 4),
        ({"attn_in": 3}, 4),
        ({"v": 3}, 4),  # of two heads
        ({"mlp_in": 4, "mlp_neuron": 8, "q": 4}, 4),
        ({"mlp_in": 5}, 1),
        ({"q": 5}, 1),
        ({"mlp_neuron": 32}, 1),
        ({}, 8),
    ]
    shapes = sites.node_shapes(config, sites.LAYER_SITES)
    alive = {site: np.zeros((len(cases), *shape), bool) for site, shape in shapes.items()}
    for lane, (counts, _) in enumerate(cases):
        for site, count in counts.items():
            alive[site][lane, 1, :count] = True
            alive[site][lane, 0, -1] = True  # a layer that has fewer
    assert rules.smallest_parts(config, alive).tolist() == [part for _, part in cases]


PRUNE = PruneConfig(
    steps=200, pairs_per_step=4, train_pairs=8, learning_rate=0.004, k_coef=0.01, compact=True
)


def run(prune, lanes, **given):
    shapes = sites.node_shapes(PLANTED)
    means = {site: 0.1 * jnp.ones(shape) for site, shape in shapes.items()}
    return optimize_gates(PLANTED, prune, planted_params(), means, [planted_pairs(8)], lanes, **given)


@pytest.fixture
def parts(monkeypatch):
    """The parts of the width that programs are asked for."""
    asked, plan = [], engine.plan_lanes
    monkeypatch.setattr(engine, "plan_lanes", lambda *args: asked.append(args[-1]) or plan(*args))
    return asked


def test_the_planted_circuit_is_found_by_smaller_and_smaller_programs(parts):
    found = run(PRUNE, make_lanes(PRUNE))
    for site, tau in tie(found.logits).items():
        np.testing.assert_array_equal(tau[0] >= 0, planted_gates()[site], err_msg=site)
    assert found.history["open"][0, -1] == 3 and found.history["loss"][0, -1] < 0.1
    assert parts[0] == 1 and parts[-1] == 8 and parts == sorted(parts)


# with frozen norms, so that lanes are seen to change their programs with them
SHORT = dataclasses.replace(PRUNE, steps=12, init_scale=0.1, frozen_norms=True)


@pytest.fixture
def two_parts(monkeypatch):
    """One program less: of the whole width, or of an eighth."""
    monkeypatch.setattr(rules, "PARTS", (8, 1))


@pytest.fixture(scope="module")
def all_three():
    """Three lanes that drop a half, most and nearly all of their gates."""
    lanes = make_lanes(SHORT, 3)
    hyper = dataclasses.replace(lanes.hyper, init_mean=np.float32([0.0, -0.1, -0.25]))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rules, "PARTS", (8, 1))
        return lanes.replace(hyper=hyper), run(SHORT, lanes.replace(hyper=hyper))


@pytest.fixture
def three(all_three, two_parts):
    return all_three


def assert_same(found, expected, chosen, tolerance=0.0):
    for name, tau in found.logits.items():
        np.testing.assert_allclose(tau, expected.logits[name][chosen], rtol=0, atol=tolerance)
    for name, values in found.history.items():
        np.testing.assert_allclose(values, expected.history[name][chosen], rtol=0, atol=tolerance)


@pytest.mark.slow
def test_a_lane_depends_on_itself_alone_whatever_the_program_of_others(three, parts):
    lanes, all_three = three
    assert_same(run(SHORT, jax.tree.map(lambda leaf: leaf[1:2], lanes)), all_three, [1])
    run(SHORT, lanes)
    # programs of both kinds between the same two stops
    assert {1, 8} <= set(parts) and parts != sorted(parts)


def test_what_is_not_computed_changes_nothing(three, parts, monkeypatch):
    lanes, found = three
    monkeypatch.setattr(rules, "PARTS", (1,))
    whole = run(SHORT, lanes)
    assert set(parts) == {1}
    assert_same(whole, found, slice(None), 1e-4)
    kept = run(dataclasses.replace(SHORT, compact=False), lanes)
    assert max(np.abs(tau - whole.logits[name]).max() for name, tau in kept.logits.items()) > 1e-2


class Killed(Exception):
    pass


def test_a_killed_run_goes_on_with_the_same_bits(three, tmp_path, monkeypatch):
    lanes, found = three
    monkeypatch.setattr(engine, "CHUNK_SECONDS", 0.0)  # a step at a time
    monkeypatch.setattr(engine.LaneFile, "due", True)
    saves, save = [], engine.LaneFile.save

    def killing(self, arrays):
        save(self, arrays)
        saves.append(arrays.states.step.tolist())
        if len(saves) in (2, 5, 9):
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(engine.LaneFile, "save", killing)
        for _ in range(3):
            with pytest.raises(Killed):
                run(SHORT, lanes, path=tmp_path / "lanes.npz")
    assert max(saves[-1]) < 12
    assert_same(run(SHORT, lanes, path=tmp_path / "lanes.npz"), found, slice(None))


def test_edges_drop_nothing_and_resampled_fills_are_refused():
    lanes = make_lanes(PRUNE)
    assert rules.can_compact(PRUNE, lanes)
    assert not rules.can_compact(dataclasses.replace(PRUNE, compact=False), lanes)
    for fill in ("resample", "stochastic"):
        with pytest.raises(
            InputError, match=f"pruning.compact: True is not valid.* pruning.ablation '{fill}'"
        ):
            dataclasses.replace(PRUNE, ablation=fill)
    assert not rules.can_compact(PRUNE, lanes.replace(eligible={"q": np.ones((1, 1, 8))}))
