import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from sparse_jax.sparsity.config import SparsityConfig
from sparse_jax.training.optimizer import OptimizerConfig, learning_rate, sparse_optimizer
from sparse_jax.trees import named_leaves
from tests.sparsity.trees import small_params

pytestmark = pytest.mark.accelerator

DENSE = SparsityConfig(1.0)
DECAYED = ("embed/kernel", "layers/attn/q/kernel", "layers/mlp/up/kernel")


def rates(config, sparsity, total):
    return np.asarray(learning_rate(config, sparsity, jnp.arange(total + 1), total))


def test_learning_rate_by_hand():
    """Two updates of warm-up out of ten: up in halves, then down in ninths."""
    config = OptimizerConfig(learning_rate=9.0, warmup=0.2)
    expected = [4.5, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0]
    np.testing.assert_allclose(rates(config, DENSE, 10), expected, rtol=1e-6)


def test_sharkfin_by_hand():
    """Fraction kept 1 -> 0.25 over updates 0 to 4 (1, 13/16, 10/16, 7/16, 1/4): the factor ends at 1."""
    sparsity = SparsityConfig(0.25, anneal_start=0.0, anneal_end=0.4)
    config = OptimizerConfig(learning_rate=9.0, warmup=0.2)
    factor = np.sqrt(0.25 / np.array([1, 13 / 16, 10 / 16, 7 / 16] + [0.25] * 7))
    plain = rates(OptimizerConfig(learning_rate=9.0, warmup=0.2, sharkfin=False), sparsity, 10)
    np.testing.assert_allclose(plain, [4.5, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0], rtol=1e-6)
    np.testing.assert_allclose(rates(config, sparsity, 10), plain * factor, rtol=1e-6)


def test_sharkfin_of_rules_alone_is_that_of_the_smallest_of_them():
    rules = (("embed/.*", 0.5), ("layers/.*", 0.25), ("unembed/.*", None))
    alone = SparsityConfig(1.0, rules=rules, anneal_start=0.0, anneal_end=0.4)
    common = SparsityConfig(0.25, anneal_start=0.0, anneal_end=0.4)
    config = OptimizerConfig(learning_rate=9.0, warmup=0.2)
    found = rates(config, alone, 10)
    np.testing.assert_array_equal(found, rates(config, common, 10))
    assert found[0] == pytest.approx(4.5 * 0.5)


def test_no_warmup_starts_at_the_peak():
    assert rates(OptimizerConfig(learning_rate=1.0, warmup=0.0), DENSE, 4).tolist() == [1, 0.75, 0.5, 0.25, 0]


def few_params():
    """One leaf of every kind, so that the chains here compile fast."""
    params = small_params(n_layers=1, d_model=4, d_mlp=4, d_attention=4, vocab_size=3)
    layers = params["layers"]
    attention = {name: layers["attn"][name] for name in ("q", "sink")}
    mlp = {name: layers["mlp"][name] for name in ("norm", "up")}
    others = {name: params[name] for name in ("embed", "position", "bigram", "logit_bias")}
    return others | {"layers": {"attn": attention, "mlp": mlp}}


def run(config, gradients, frozen=(), sparsity=DENSE):
    """Parameters by name after each gradient has been applied in float32."""
    params = few_params()
    chain = sparse_optimizer(config, sparsity, len(gradients), frozen)
    state, history = chain.init(params), [named_leaves(params)]
    step = jax.jit(chain.update)
    for gradient in gradients:
        updates, state = step(jax.tree.map(jnp.asarray, gradient), state, params)
        params = optax.apply_updates(params, updates)
        history.append(named_leaves(params))
    return history


def random_gradients(steps, scale=1.0):
    rng, params = np.random.default_rng(1), few_params()
    return [
        jax.tree.map(lambda p: np.float32(scale * rng.normal(size=p.shape)), params) for _ in range(steps)
    ]


def reference(config, start, gradients, frozen=()):
    """The same updates in float64: normalized gradient, AdamW with decoupled decay, no weight pruned."""
    params = {name: np.float64(p) for name, p in start.items()}
    first = dict.fromkeys(params, 0.0)
    second = dict.fromkeys(params, 0.0)
    for step, tree in enumerate(gradients):
        gradient = {name: np.float64(g) for name, g in named_leaves(tree).items() if name not in frozen}
        rms = np.sqrt(np.mean(np.concatenate([g.ravel() for g in gradient.values()]) ** 2))
        divisor = {"normalize": rms + 1e-5, "clip": max(rms, 1), "none": 1}[config.gradient_norm]
        rate = float(learning_rate(config, DENSE, step, len(gradients)))
        for name, g in gradient.items():
            g = g / divisor
            first[name] = config.b1 * first[name] + (1 - config.b1) * g
            second[name] = config.b2 * second[name] + (1 - config.b2) * g**2
            mean = first[name] / (1 - config.b1 ** (step + 1))
            spread = np.sqrt(second[name] / (1 - config.b2 ** (step + 1)))
            decay = config.weight_decay * params[name] if name in DECAYED else 0
            params[name] = params[name] - rate * (mean / (spread + config.eps) + decay)
    return params


@pytest.mark.parametrize(
    "norm, scale", [("normalize", 5.0), ("normalize", 1e-3), ("clip", 5.0), ("clip", 0.1), ("none", 0.1)]
)
def test_adamw_against_float64(norm, scale):
    config = OptimizerConfig(learning_rate=0.05, gradient_norm=norm, warmup=0.3)
    gradients, frozen = random_gradients(6, scale), ("logit_bias", "position/kernel")
    history = run(config, gradients, frozen)
    expected = reference(config, history[0], gradients, frozen)
    for name, p in history[-1].items():
        np.testing.assert_allclose(p, expected[name], rtol=2e-5, atol=2e-6, err_msg=name)


def test_a_bigram_table_does_not_decay_as_a_product_either():
    params = {"bigram": {"current": {"kernel": jnp.ones((4, 2))}}, "embed": {"kernel": jnp.ones((4, 2))}}
    chain = sparse_optimizer(OptimizerConfig(), DENSE, 2)
    updates, _ = chain.update(jax.tree.map(jnp.zeros_like, params), chain.init(params), params)
    assert np.all(updates["embed"]["kernel"] < 0) and not np.any(updates["bigram"]["current"]["kernel"])


def test_frozen_leaves_stay_put_and_do_not_count_in_the_gradient_norm():
    gradients = random_gradients(2)
    huge = [g | {"logit_bias": 1e6 * g["logit_bias"]} for g in gradients]
    config = OptimizerConfig()
    plain, frozen = run(config, gradients, ("logit_bias",)), run(config, huge, ("logit_bias",))
    np.testing.assert_array_equal(frozen[-1]["logit_bias"], frozen[0]["logit_bias"])
    for name in plain[-1]:
        np.testing.assert_array_equal(plain[-1][name], frozen[-1][name], err_msg=name)
    assert (run(config, gradients)[-1]["logit_bias"] != frozen[0]["logit_bias"]).any()


def test_the_chain_ends_sparse_and_holds_the_masks():
    sparsity = SparsityConfig(0.5, min_per_channel=1, anneal_start=0.0)
    chain = sparse_optimizer(OptimizerConfig(), sparsity, 4)
    masks = optax.tree.get(chain.init(few_params()), "masks")
    assert masks["embed"]["kernel"].shape == (3, 4) and masks["bigram"]["kernel"] is None
    final = run(OptimizerConfig(), random_gradients(4), sparsity=sparsity)[-1]
    assert np.count_nonzero(final["layers/mlp/up/kernel"]) == 8
    assert np.count_nonzero(final["bigram/kernel"]) == 9
