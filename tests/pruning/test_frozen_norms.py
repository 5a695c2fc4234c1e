"""Norms that divide by the full model's root mean squares, against NumPy."""

import dataclasses

import jax
import numpy as np
import pytest

from sparse_jax.ablation.objective import last_logits
from sparse_jax.inputs import InputError
from sparse_jax.model import sites
from sparse_jax.model.forward import initialize
from sparse_jax.model.hooks import Hooks
from sparse_jax.pruning.config import PruneConfig
from sparse_jax.pruning.lanes import make_lanes, optimize_gates
from sparse_jax.tasks.packing import PackedPairs, pack_pairs
from tests.compiled import forward
from tests.pruning.noisy import CONFIG, noisy, one_layer, random_gates

PRUNE = PruneConfig(
    steps=6, learning_rate=0.1, k_coef=0.1, pairs_per_step=4, train_pairs=20, frozen_norms=True
)
# without AbsTopK what a sub-layer reads is its normed input itself
OPEN = dataclasses.replace(CONFIG, activation_fraction=None)


def rms(x):
    return np.sqrt(np.mean(np.float64(x) ** 2, axis=-1, keepdims=True) + np.finfo(np.float32).eps)


def test_what_is_read_is_divided_by_what_the_whole_model_divides_by():
    params, tokens = noisy().params, noisy().pairs.tokens[:, 0]
    stream = ("resid_in", "resid_mid", "final_resid")
    _, whole = jax.device_get(forward(OPEN, params, tokens, Hooks(capture=(*sites.NORMS, *stream))))
    for norm, site in zip(sites.NORMS, stream):
        np.testing.assert_allclose(whole[norm], rms(whole[site]), rtol=1e-5)
    gates = {**random_gates(3, 0.5), "attn_in": np.ones((2, 6)), "mlp_in": np.ones((2, 6))}
    hooks = Hooks(
        gates,
        {site: noisy().ablated[site] for site in gates},
        norms={norm: whole[norm] for norm in sites.NORMS},
        capture=(*stream, "attn_in", "mlp_in"),
    )
    logits, pruned = jax.device_get(forward(OPEN, params, tokens, hooks))
    params = jax.device_get(params)
    assert np.abs(pruned["resid_mid"] - whole["resid_mid"]).max() > 0.1
    for sublayer, site in (("attn", "resid_in"), ("mlp", "resid_mid")):
        scale = params["layers"][sublayer]["norm"]["scale"][:, None, None]
        expected = pruned[site] / rms(whole[site]) * scale
        np.testing.assert_allclose(pruned[f"{sublayer}_in"], expected, rtol=1e-4, atol=1e-5)
    last = pruned["final_resid"] / rms(whole["final_resid"]) * params["final_norm"]["scale"]
    expected = last @ np.asarray(params["unembed"]["kernel"]) + params["logit_bias"]
    np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=1e-3)


def test_pairs_in_any_form_give_the_same_logits_and_open_gates_the_whole_models():
    judge, gates = one_layer(noisy()), {site: gate[:1] for site, gate in random_gates(4, 0.6).items()}
    run = jax.jit(lambda gates, pairs, frozen: last_logits(
        judge.config, judge.params, gates, judge.ablated, pairs, frozen
    ), static_argnums=2)  # fmt: skip
    packed = pack_pairs(judge.pairs)
    assert isinstance(packed, PackedPairs)
    frozen = run(gates, judge.pairs, True)
    np.testing.assert_allclose(run(gates, packed, True), frozen, atol=1e-3)
    assert np.abs(frozen - run(gates, judge.pairs, False)).max() > 0.1
    everything = {site: np.ones(gate.shape) for site, gate in gates.items()}
    whole = run(everything, judge.pairs, False)
    np.testing.assert_allclose(run(everything, judge.pairs, True), whole, atol=1e-3)
    # what a circuit is judged by
    judged = dataclasses.replace(judge, frozen_norms=True)
    np.testing.assert_allclose(judged.logits(gates), frozen, atol=1e-3)
    assert np.abs(judged.losses(gates) - judge.losses(gates)).max() > 1e-3


@pytest.mark.slow
def test_gates_are_trained_with_it_and_other_models_are_refused():
    judge = noisy()
    lanes = make_lanes(PRUNE)

    def train(prune, config=CONFIG, params=judge.params):
        return optimize_gates(config, prune, params, judge.ablated, [judge.pairs], lanes).history["loss"]

    frozen, own = train(PRUNE), train(dataclasses.replace(PRUNE, frozen_norms=False))
    # open gates first: the full model has its own norms
    assert frozen[0, 0] == pytest.approx(own[0, 0], abs=1e-4)
    assert np.isfinite(frozen).all() and np.abs(frozen[0, 1:] - own[0, 1:]).max() > 1e-3
    layer_norm = dataclasses.replace(CONFIG, norm="layer")
    with pytest.raises(InputError, match="pruning.frozen_norms: True is not valid"):
        train(PRUNE, layer_norm, initialize(layer_norm, jax.random.key(0)))
    with pytest.raises(InputError, match=r"hooks.norms\['mlp_norm'\]: shape \(2, 1\)"):
        forward(CONFIG, judge.params, judge.pairs.tokens[:, 0], Hooks(norms={"mlp_norm": np.ones((2, 1))}))
