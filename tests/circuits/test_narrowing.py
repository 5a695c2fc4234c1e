"""A narrow model gives what the full model gives with the nodes that are left out closed; judges use it."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sparse_jax.ablation import compiled
from sparse_jax.ablation.judge import Judge
from sparse_jax.ablation.objective import last_logits
from sparse_jax.circuits.narrowing import Widths, fitting_widths, full_widths, narrow_model, narrowed
from sparse_jax.inputs import InputError
from sparse_jax.model import sites
from sparse_jax.model.config import ModelConfig
from sparse_jax.model.forward import param_shapes
from sparse_jax.model.hooks import Hooks, Patch
from sparse_jax.pruning.drop import smallest_parts
from sparse_jax.tasks.encode import EncodedPairs
from sparse_jax.tasks.metrics import LOSSES
from sparse_jax.tasks.packing import pack_pairs
from sparse_jax.topk import chunks
from sparse_jax.trees import map_named
from tests.compiled import forward

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


def large_params(config):
    """Parameters with weights large enough to matter."""
    rng = np.random.default_rng(0)

    def drawn(name, x):
        if "kernel" in name:
            return rng.normal(0, 0.16, x.shape).astype(x.dtype)
        return np.full(x.shape, 0 if "scale" not in name else 8 if x.ndim > 1 else 1, x.dtype)

    return map_named(drawn, param_shapes(config))


def with_uneven_attention(config):
    """The same, with rows of attention that are neither even nor full of one token."""
    params = large_params(config)
    for matrix in ("q", "k"):
        params["layers"]["attn"][matrix]["kernel"] *= 3
    return params


def pairs_and_alive(config, part, silent):
    """Pairs, and random nodes that fit `part` tightly; layer 1 has none at the site `silent`."""
    rng = np.random.default_rng(6)
    tokens = rng.integers(1, 24, (3, 2, 8)).astype(np.int32)
    tokens[:, 1, :SHARED] = tokens[:, 0, :SHARED]
    last = np.array([[7, 6], [7, 7], [5, 7]], np.int32)
    shapes = sites.node_shapes(config, sites.LAYER_SITES)
    alive = {site: rng.random(shape) < 0.8 for site, shape in shapes.items()}
    full = full_widths(config)
    for source, width in narrowed(full, part)._asdict().items():
        order = np.argsort(rng.random((2, getattr(full, source))), axis=1)
        mask = order < width
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
    params = with_uneven_attention(config)
    if config.attention_sink:
        params["layers"]["attn"]["sink"] += np.linspace(-1, 2, config.n_heads, dtype=np.float32)
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
        own = narrow_model(config, params, ablated, alive, narrowed(full_widths(config), part))
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
    params = large_params(config)
    tokens = np.random.default_rng(1).integers(0, 24, (3, 10)).astype(np.int32)
    shapes = sites.node_shapes(config, sites.LAYER_SITES)
    gates = {site: np.ones(shape, np.float32) for site, shape in shapes.items()}
    for gate in gates.values():
        gate[:, ::4] = 0
    ablated = {site: np.zeros(shape, np.float32) for site, shape in shapes.items()}
    alive = {site: gate > 0 for site, gate in gates.items()}
    own = jax.jit(narrow_model, static_argnums=(0, 4))(config, params, ablated, alive, full_widths(config))
    vector = np.full(16, 0.5, np.float32)
    outside = Hooks(gates, ablated, additions={"final_resid": vector}, capture=("final_resid",))
    found, full = (forward(config, params, tokens, outside, narrow=narrow) for narrow in (own, None))
    np.testing.assert_allclose(found[0], full[0], atol=1e-4)
    np.testing.assert_allclose(found[1]["final_resid"], full[1]["final_resid"], atol=1e-4)
    for kind, given in {
        "capture": ("q",),
        "additions": {"q": vector},
        "patches": {"q": Patch(np.array(True), vector)},
    }.items():
        with pytest.raises(InputError, match=f"hooks.{kind}: 'q' in a narrow model; valid: the full model"):
            forward(config, params, tokens, Hooks(gates, ablated, **{kind: given}), narrow=own)


@pytest.mark.parametrize(
    ("changes", "frozen", "ablation"),
    [
        pytest.param({}, False, "mean", marks=pytest.mark.slow),
        ({}, True, "resample"),
        pytest.param(WITHOUT_EXTRAS, True, "mean", marks=pytest.mark.slow),
        (WITHOUT_EXTRAS, False, "resample_position"),
        (CONCATENATED, False, "mean"),
        pytest.param(CONCATENATED, False, "resample", marks=pytest.mark.slow),
        (LAYER_NORM, False, "mean"),
        pytest.param(LAYER_NORM, False, "resample_text", marks=pytest.mark.slow),
    ],
)
def test_a_judge_leaves_out_what_is_closed_in_all_variants(monkeypatch, changes, frozen, ablation):
    config = dataclasses.replace(BASE, **changes)
    rng = np.random.default_rng(4)
    pairs, alive = pairs_and_alive(config, 4, "mlp_out")
    gates = {site: np.float32(mask) for site, mask in alive.items()}
    shapes = sites.node_shapes(config, sites.LAYER_SITES)
    ablated = {site: jnp.float32(0.5 * rng.normal(size=shape)) for site, shape in shapes.items()}
    # one closed neuron carries a constant of its own
    constant = np.full(shapes["mlp_neuron"], np.nan, np.float32)
    constant[0, np.flatnonzero(gates["mlp_neuron"][0] == 0)[0]] = 3
    judge = Judge(
        config,
        with_uneven_attention(config),
        ablated,
        pairs,
        frozen_norms=frozen,
        ablation=ablation,
        text=np.random.default_rng(5).integers(1, 24, (7, 10)).astype(np.int32),
        constants={"mlp_neuron": constant},
    )
    ranks = {site: np.where(gate > 0, np.arange(gate.shape[-1]), -1) for site, gate in gates.items()}
    closed = np.array([[0, 0], [1, 3], [2, 9]])
    widths = []
    narrowing = compiled.narrowing
    monkeypatch.setattr(compiled, "narrowing", lambda *given: widths.append(given[1]) or narrowing(*given))
    losses = judge.variants(gates, ranks, closed)
    assert set(widths) == {fitting_widths(config, alive)} != {None}
    for row, (start, stop) in zip(losses, closed):
        left = {site: gate * ((ranks[site] < start) | (stop <= ranks[site])) for site, gate in gates.items()}
        # logits are computed at the full width
        expected = LOSSES["binary"](judge.logits(left), pairs.candidates)
        np.testing.assert_allclose(row, expected, atol=1e-4)
    assert np.ptp(losses.mean(axis=1)) > 1e-3


@pytest.mark.parametrize("ablation", ["mean", "resample"])
def test_a_narrow_model_is_kept_for_fewer_open_nodes_and_made_anew_for_others(ablation):
    pairs, alive = pairs_and_alive(BASE, 4, "mlp_out")
    gates = {site: np.float32(mask) for site, mask in alive.items()}
    shapes = sites.node_shapes(BASE, sites.LAYER_SITES)
    rng = np.random.default_rng(4)
    ablated = {site: jnp.float32(0.5 * rng.normal(size=shape)) for site, shape in shapes.items()}
    judge = Judge(BASE, with_uneven_attention(BASE), ablated, pairs, ablation=ablation)

    def check(gates):
        expected = LOSSES["binary"](judge.logits(gates), pairs.candidates)
        np.testing.assert_allclose(judge.losses(gates), expected, atol=1e-4)
        return expected, {key: value for key, value in judge._kept.values.items() if key[0] == "narrow"}

    before, made = check(gates)
    first = tuple(np.argwhere(gates["mlp_neuron"])[0])
    fewer = {**gates, "mlp_neuron": gates["mlp_neuron"].copy()}
    fewer["mlp_neuron"][first] = 0
    _, kept = check(fewer)
    assert made and all(kept[key] is made[key] for key in made)
    others = {**fewer, "mlp_neuron": fewer["mlp_neuron"].copy()}
    others["mlp_neuron"][tuple(np.argwhere(~alive["mlp_neuron"])[0])] = 1
    after, anew = check(others)
    assert made.keys() == anew.keys() and all(anew[key] is not made[key] for key in made)
    assert np.abs(after - before).max() > 1e-3


def test_widths_are_the_least_of_a_few_that_everything_alive_fits_into():
    config = ModelConfig(vocab_size=24, context=16, n_layers=2, d_model=32, d_head=2, d_mlp=64)
    shapes = sites.node_shapes(config, sites.LAYER_SITES)
    alive = {site: np.zeros(shape, bool) for site, shape in shapes.items()}
    assert fitting_widths(config, alive) == Widths(2, 1, 2, 4)
    alive["v"][1, [0, 1]] = True  # both channels of head 0
    alive["mlp_neuron"][0, :4] = True
    assert fitting_widths(config, alive) == Widths(2, 1, 2, 4)
    alive["q"][1, 2] = True  # a second head
    assert fitting_widths(config, alive) == Widths(2, 4, 2, 4)
    alive["mlp_neuron"][0, 4] = True  # a fifth neuron: a quarter of all channels
    assert fitting_widths(config, alive) == Widths(8, 4, 8, 16)
    alive["attn_in"][0] = True
    assert fitting_widths(config, alive) == Widths(32, 4, 32, 64)
    alive["k"][0] = True
    assert fitting_widths(config, alive) is None
