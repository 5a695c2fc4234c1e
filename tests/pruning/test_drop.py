"""A narrow model gives what the full model gives with the left out nodes closed; lanes that drop gates."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sparse_jax.ablation.objective import last_logits
from sparse_jax.circuits.gates import tie
from sparse_jax.inputs import InputError
from sparse_jax.model import sites
from sparse_jax.model.config import ModelConfig
from sparse_jax.model.forward import forward, initialize
from sparse_jax.model.hooks import Hooks, Patch
from sparse_jax.pruning import drop as rules
from sparse_jax.pruning import lanes as engine
from sparse_jax.pruning.config import PruneConfig
from sparse_jax.pruning.drop import narrow_model, smallest_parts
from sparse_jax.pruning.lanes import make_lanes, optimize_gates
from sparse_jax.tasks.encode import EncodedPairs
from sparse_jax.tasks.packing import pack_pairs
from sparse_jax.topk import chunks
from tests.planted import CONFIG as PLANTED
from tests.planted import planted_gates, planted_pairs, planted_params

BASE = ModelConfig(vocab_size=24, context=16, n_layers=2, d_model=16, d_head=2, d_mlp=32, unroll=False)
LAYER_NORM = {
    "activation_fraction": None,
    "activation": "gelu_tanh",
    "residual_activation": "relu",
    "norm": "layer",
}
WITHOUT_EXTRAS = {"attention_sink": False, "bias": False, "activation": "relu"}
CONCATENATED = {"positions": "concatenated", "d_position": 8, "unroll": True}
SHARED = 5


def pairs_and_alive(config, part, silent):
    """Pairs, and random nodes that fit `part` tightly; layer 1 has none at the site `silent`."""
    rng = np.random.default_rng(6)
    tokens = rng.integers(1, 24, (3, 2, 8)).astype(np.int32)
    tokens[:, 1, :SHARED] = tokens[:, 0, :SHARED]
    last = np.array([[7, 6], [7, 7], [5, 7]], np.int32)
    shapes = sites.node_shapes(config, sites.LAYER_SITES)
    alive = {site: rng.random(shape) < 0.8 for site, shape in shapes.items()}
    for source in rules.SOURCES:
        shape = (2, config.n_heads if source == "heads" else sites.width(config, source))
        order = np.argsort(rng.random(shape), axis=1)
        mask = order < rules.chosen_width(config, source, part)
        if source != "heads":
            alive[source] = mask
            continue
        for site in ("q", "k", "v"):
            alive[site] &= mask.repeat(config.d_head, axis=1)
    alive[silent][1] = False
    return EncodedPairs(tokens, last, tokens[..., :2]), alive


@pytest.mark.parametrize(
    ("changes", "part", "packed", "silent", "frozen", "alone"),
    [
        ({}, 4, True, "mlp_out", False, True),
        pytest.param(WITHOUT_EXTRAS, 4, False, "attn_out", True, False, marks=pytest.mark.slow),
        pytest.param(CONCATENATED, 8, True, "attn_out", True, False, marks=pytest.mark.slow),
        pytest.param(LAYER_NORM, 8, False, "mlp_out", False, True, marks=pytest.mark.slow),
    ],
)
def test_logits_and_gradients_are_those_of_the_full_model(
    monkeypatch, changes, part, packed, silent, frozen, alone
):
    if alone:  # as on a machine with one device, where 4 rows of the 32 neurons are made at once
        monkeypatch.setattr(jax, "device_count", lambda: 1)
        monkeypatch.setattr(chunks, "CACHE_BYTES", 1024)
    config = dataclasses.replace(BASE, **changes)
    params = initialize(config, jax.random.key(0))
    params = jax.tree.map(lambda x: x * 8 if x.ndim > 1 else x, params)
    for matrix in ("q", "k"):  # rows of attention that are neither even nor full of one token
        params["layers"]["attn"][matrix]["kernel"] *= 3
    if config.attention_sink:
        params["layers"]["attn"]["sink"] += jnp.linspace(-1, 2, config.n_heads)
    rng = np.random.default_rng(2)
    shapes = sites.node_shapes(config, sites.LAYER_SITES)
    ablated = {site: jnp.float32(0.5 * rng.normal(size=shape)) for site, shape in shapes.items()}
    pairs, alive = pairs_and_alive(config, part, silent)
    # of the chosen nodes some are closed, but not for good
    gates = {site: jnp.float32(mask & (rng.random(mask.shape) < 0.9)) for site, mask in alive.items()}
    weights = jnp.float32(rng.normal(size=(3, 2, 24)))
    ablated[sites.EMBED_SITE] = jnp.float32(0.5 * rng.normal(size=config.d_model))
    gates[sites.EMBED_SITE] = jnp.float32(rng.random(config.d_model) < 0.8)
    pairs = jax.tree.map(jnp.asarray, pack_pairs(pairs) if packed else pairs)
    assert smallest_parts(config, {site: mask[None] for site, mask in alive.items()}) == [part]

    def result(gates, params, ablated, pairs, narrow):
        logits = last_logits(config, params, gates, ablated, pairs, frozen, narrow)
        return (logits * weights).sum(), logits

    @jax.jit
    def both(gates, alive, params, ablated, pairs):
        own = narrow_model(config, params, ablated, alive, part)
        run = jax.value_and_grad(result, has_aux=True)
        return [run(gates, params, ablated, pairs, narrow) for narrow in (None, own)]

    ((_, whole), expected), ((_, found), gradients) = both(gates, alive, params, ablated, pairs)
    np.testing.assert_allclose(found, whole, atol=1e-4)
    for site in gates:
        mask = alive.get(site, True)
        largest = np.abs(expected[site] * mask).max()
        assert largest > 1e-3, site
        np.testing.assert_allclose(gradients[site] * mask, expected[site] * mask, atol=1e-3 * largest)


def test_a_narrow_model_refuses_what_it_does_not_compute():
    config = ModelConfig(vocab_size=24, context=16, n_layers=2, d_model=16, d_head=4, unroll=False)
    params = jax.tree.map(lambda x: x * 8 if x.ndim > 1 else x, initialize(config, jax.random.key(0)))
    tokens = jax.random.randint(jax.random.key(1), (3, 10), 0, 24)
    shapes = sites.node_shapes(config, sites.LAYER_SITES)
    gates = {site: jnp.ones(shape).at[:, ::4].set(0) for site, shape in shapes.items()}
    ablated = {site: jnp.zeros(shape) for site, shape in shapes.items()}
    own = narrow_model(config, params, ablated, {site: gate > 0 for site, gate in gates.items()}, 1)
    vector = jnp.full(16, 0.5)
    outside = Hooks(gates, ablated, additions={"final_resid": vector}, capture=("final_resid",))
    found, full = (
        jax.jit(forward, static_argnums=0)(config, params, tokens, outside, narrow=narrow)
        for narrow in (own, None)
    )
    np.testing.assert_allclose(found[0], full[0], atol=1e-4)
    np.testing.assert_allclose(found[1]["final_resid"], full[1]["final_resid"], atol=1e-4)
    for kind, given in {
        "capture": ("q",),
        "additions": {"q": vector},
        "patches": {"q": Patch(jnp.bool_(True), vector)},
    }.items():
        with pytest.raises(InputError, match=f"hooks.{kind}: 'q' in a narrow model; valid: the full model"):
            forward(config, params, tokens, Hooks(gates, ablated, **{kind: given}), narrow=own)


def test_a_gate_is_dropped_that_could_hardly_come_back():
    # 100 steps at a rate of 0.08, after 50: (50 + 49 + ... + 1) / 100 * 0.08 is about 1, of which a quarter
    logits = {"q": np.float32([[-0.26, -0.24, 0.3], [-0.26, -0.51, np.nan]])}
    found = rules.still_alive(logits, np.float32([0.08, 0.16]), 50, 100)
    assert found["q"].tolist() == [[False, True, True], [True, False, True]]
    assert not rules.still_alive(logits, np.float32([0.08, 0.16]), 100, 100)["q"][:, 0].any()


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


@pytest.fixture(scope="module")
def three():
    """Three lanes that drop a half, most and nearly all of their gates."""
    lanes = make_lanes(SHORT, 3)
    hyper = dataclasses.replace(lanes.hyper, init_mean=np.float32([0.0, -0.1, -0.25]))
    return lanes.replace(hyper=hyper), run(SHORT, lanes.replace(hyper=hyper))


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
