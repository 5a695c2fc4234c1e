"""One lane's steps are AdamW as written down by hand, on batches which pass over all pairs."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from sparse_jax.ablation.objective import pair_losses
from sparse_jax.ablation.roles import role_error
from sparse_jax.circuits.gates import tie
from sparse_jax.model.forward import forward
from sparse_jax.model.hooks import Hooks
from sparse_jax.model.sites import LAYER_SITES
from sparse_jax.pruning.config import PruneConfig
from sparse_jax.pruning.logits import logit_shapes
from sparse_jax.pruning.step import Lane, Shared, _batch, _rows, lane_step, new_lane
from tests.planted import CONFIG, planted_gates, planted_pairs, planted_params

pytestmark = pytest.mark.accelerator

PRUNE = PruneConfig(steps=8, pairs_per_step=4, train_pairs=12, tied_qk=False)
TIED = dataclasses.replace(PRUNE, tied_qk=True)
# the clip is so small that Adam's epsilon counts; without that, Adam undoes most of a clip
HYPER = {"k_coef": 0.01, "learning_rate": 0.02, "warmup": 0.5, "weight_decay": 2.0, "init_scale": 0.1}
HYPER |= {"b2": 0.8, "temperature": 0.1, "gradient_clip": 1e-6}
# warm-up over 4 of the 8 steps; then decay from the first step on
WARMUP, DECAY = np.array([1, 2, 3, 4, 4, 4, 4, 4]) / 4, np.array([8, 7, 6, 5, 4, 3, 2, 1]) / 8


def hyperparameters(**changed):
    return dataclasses.replace(PRUNE.hyperparameters(), **{**HYPER, **changed})


def new_state(lane, prune=PRUNE):
    return new_lane(logit_shapes(CONFIG, prune.sites, prune.tied_qk), lane)


def lane_of(hyper, seed=0, **given):
    return Lane(jnp.int32(0), jnp.uint32(seed), hyper, **given)


@functools.cache
def compiled(objective, prune=PRUNE):
    """A lane's step, and a batch's loss with its gradients by gates, on pairs which want different gates."""
    prune, params, pairs = (
        dataclasses.replace(prune, objective=objective),
        planted_params(),
        planted_pairs(12),
    )
    ablated = {site: jnp.full_like(gate, 0.05) for site, gate in planted_gates().items()}
    pairs.candidates[::3] = pairs.candidates[::3, :, ::-1].copy()
    shared = Shared(params, ablated, jax.tree.map(lambda array: jnp.asarray(array)[None], pairs))

    def loss(gates, lane, step):
        batch = _batch(shared.tasks, _rows(lane, 12, 4, step), lane)
        return pair_losses(CONFIG, params, gates, ablated, batch, objective).mean()

    step = jax.jit(lambda lane, state: lane_step(CONFIG, prune, shared, lane, state))
    return step, jax.jit(jax.value_and_grad(loss))


def run_lane(hyper, steps=8, objective="binary", prune=PRUNE):
    """Every state of a lane, that before the first step included, and every step's metrics."""
    lane = lane_of(hyper)
    states, metrics = [new_state(lane, prune)], []
    for _ in range(steps):
        state, measured = compiled(objective, prune)[0](lane, states[-1])
        states, metrics = [*states, state], [*metrics, measured]
    return states, metrics


def gradient(tau, temperature):
    s = 1 / (1 + np.exp(-tau / temperature))
    return s * (1 - s) / temperature


def by_hand(states, hyper, rates, objective="binary", bound=1.0):
    """The logits after each step in float64, and the metrics; only gradients by gates come from JAX."""
    tau = {site: np.asarray(x, np.float64) for site, x in states[0].logits.items()}
    m, v = dict.fromkeys(tau, 0.0), dict.fromkeys(tau, 0.0)
    path, metrics = [], []
    for t, rate in enumerate(rates, 1):
        gates = {site: jnp.asarray(x >= 0, jnp.float32) for site, x in tau.items()}
        loss, gradients = compiled(objective)[1](gates, lane_of(hyper), states[t - 1].step)
        metrics.append((float(loss), sum(int((x >= 0).sum()) for x in tau.values())))
        g = {s: (np.float64(gradients[s]) + hyper.k_coef) * gradient(tau[s], hyper.temperature) for s in tau}
        norm = np.sqrt(sum((x**2).sum() for x in g.values()))
        for s in tau:
            clipped = g[s] * min(1.0, hyper.gradient_clip / norm)
            m[s] = 0.9 * m[s] + 0.1 * clipped
            v[s] = hyper.b2 * v[s] + (1 - hyper.b2) * clipped**2
            adam = m[s] / (1 - 0.9**t) / (np.sqrt(v[s] / (1 - hyper.b2**t)) + 1e-8)
            tau[s] = np.clip(tau[s] - rate * (adam + hyper.weight_decay * tau[s]), -bound, bound)
        path.append(dict(tau))
    return path, metrics


def distance(left, right):
    return max(np.abs(np.asarray(left[site]) - np.asarray(right[site])).max() for site in left)


@pytest.mark.parametrize(
    ("objective", "warmup"), [("binary", 0.5), ("full_vocabulary", 0.5), ("binary", 0.0)]
)
def test_steps_are_adamw_by_hand(objective, warmup):
    hyper = hyperparameters(warmup=warmup)
    states, metrics = run_lane(hyper, objective=objective)
    rates = 0.02 * DECAY * (WARMUP if warmup else 1)
    path, expected = by_hand(states, hyper, rates, objective)
    for t in range(8):
        assert states[t + 1].step == t + 1
        assert distance(states[t + 1].logits, path[t]) < 1e-5, f"step {t}"
    np.testing.assert_allclose([(m["loss"], m["open"]) for m in metrics], expected, rtol=1e-4)
    assert np.ptp(expected, axis=0).min() > 0.01


NEUTRAL = {"gradient_clip": 1e9, "weight_decay": 0.0, "k_coef": 0.0, "b2": 0.5, "temperature": 1.0}


@pytest.mark.parametrize("part", [*NEUTRAL, "warmup", "decay"])
def test_each_part_of_a_step_counts(part):
    states, _ = run_lane(hyperparameters())
    hyper = hyperparameters(**{part: NEUTRAL[part]}) if part in NEUTRAL else hyperparameters()
    rates = {"warmup": DECAY, "decay": WARMUP}.get(part, WARMUP * DECAY)
    assert distance(states[-1].logits, by_hand(states, hyper, 0.02 * rates)[0][-1]) > 1e-3


def test_logits_stay_within_one():
    hyper = hyperparameters(learning_rate=8.0, k_coef=0.0, weight_decay=0.0, gradient_clip=1.0)
    states, _ = run_lane(hyper, 1)
    free = by_hand(states, hyper, [8.0 / 4], bound=np.inf)[0][0].values()
    assert max(x.max() for x in free) > 1.5 and min(x.min() for x in free) < -1.5
    assert max(x.max() for x in states[1].logits.values()) == 1
    assert min(x.min() for x in states[1].logits.values()) == -1


def test_temperature_scales_the_gradient():
    lanes = [run_lane(hyperparameters(temperature=t, gradient_clip=1e9), 1)[0] for t in (1.0, 0.1)]
    warm, cold = (optax.tree_utils.tree_get(states[1].opt_state, "mu") for states in lanes)
    for site, tau in lanes[0][0].logits.items():
        ratio = gradient(np.float64(tau), 0.1) / gradient(np.float64(tau), 1.0)
        assert np.abs(warm[site]).min() > 1e-6 and np.abs(ratio - 1).max() > 0.5
        np.testing.assert_allclose(cold[site], warm[site] * ratio, rtol=1e-3)


def order_of(seed, epoch, size=4):
    """The pairs which an epoch's batches hold, in order."""
    # the second of two tasks
    n = jnp.stack([jnp.arange(12) - 100, jnp.arange(12)])
    pairs = planted_pairs(12)._replace(tokens=n, last=n, candidates=n)
    lane = lane_of(hyperparameters(), seed).replace(task=jnp.int32(1))
    steps = jnp.arange(12 // size) + epoch * (12 // size)
    parts = [_batch(pairs, _rows(lane, 12, size, step), lane) for step in steps]
    assert all((x == part.tokens).all() and x.shape == (size,) for part in parts for x in part)
    return np.concatenate([part.tokens for part in parts]).tolist()


def test_every_epoch_passes_over_all_pairs_in_an_order_of_its_own():
    orders = [order_of(seed, epoch) for seed in (0, 1) for epoch in (0, 1, 2)]
    assert all(sorted(order) == list(range(12)) != order for order in orders)
    assert len({tuple(order) for order in orders}) == len(orders)
    assert order_of(0, 1) == orders[1] and order_of(1, 2) == orders[5]
    assert len(set(order_of(0, 0, size=5))) == 10  # the remainder is left out


def test_a_tied_gate_gets_both_gradients_and_pays_twice():
    hyper = hyperparameters(gradient_clip=1e9, weight_decay=0.0)
    states, metrics = run_lane(hyper, 1, prune=TIED)
    start = states[0]
    assert "k" not in start.logits
    gates = {site: jnp.asarray(tau >= 0, jnp.float32) for site, tau in tie(start.logits).items()}
    _, gradients = compiled("binary")[1](gates, lane_of(hyper), start.step)
    assert metrics[0]["open"] == sum(gate.sum() for gate in gates.values())
    mu = optax.tree_utils.tree_get(states[1].opt_state, "mu")
    paid = np.float64(gradients["q"]) + np.float64(gradients["k"]) + 2 * hyper.k_coef
    np.testing.assert_allclose(mu["q"], 0.1 * paid * gradient(np.float64(start.logits["q"]), 0.1), rtol=1e-3)


def test_only_eligible_gates_move_and_the_others_are_as_fixed():
    hyper = hyperparameters(weight_decay=0.0)
    eligible = {"mlp_in": jnp.zeros((1, 8)).at[0, 2:].set(1)}
    fixed = {"mlp_neuron": jnp.ones((1, 8)).at[0, 1].set(0), "mlp_in": jnp.zeros((1, 8)).at[0, 0].set(1)}
    lane = lane_of(hyper, eligible=eligible, fixed=fixed)
    state = new_lane({"mlp_in": (1, 8)}, lane)
    after, metrics = compiled("binary")[0](lane, state)
    moved = np.asarray(after.logits["mlp_in"] != state.logits["mlp_in"])
    assert moved.tolist() == [[False] * 2 + [True] * 6]
    opened = np.asarray(state.logits["mlp_in"] >= 0, np.float32)
    assert metrics["open"] == opened[0, 2:].sum()
    opened[0, :2] = 1, 0
    gates = {"mlp_in": jnp.asarray(opened), "mlp_neuron": fixed["mlp_neuron"]}
    loss, _ = compiled("binary")[1](gates, lane, 0)
    np.testing.assert_allclose(metrics["loss"], loss, rtol=1e-5)


def test_the_penalty_for_roles_adds_its_own_gradient_and_is_no_part_of_the_reported_loss():
    """After one step, where nothing is clipped, Adam's first moment is a tenth of the gradient."""
    hyper = hyperparameters(gradient_clip=1e9)
    (before, plain), (measured,) = run_lane(hyper, 1)
    (_, kept), (with_penalty,) = run_lane(hyper, 1, prune=dataclasses.replace(PRUNE, role_coef=3.0))
    assert measured["loss"] == with_penalty["loss"]
    batch = jax.tree.map(lambda array: array[np.asarray(_rows(lane_of(hyper), 12, 4, 0))], planted_pairs(12))
    params, tokens = planted_params(), batch.tokens.reshape(8, 3)
    full = forward(CONFIG, params, tokens, Hooks(capture=LAYER_SITES))[1]

    @jax.jit
    @jax.grad
    def penalty(gates):
        means = {site: jnp.full_like(gate, 0.05) for site, gate in gates.items()}
        pruned = forward(CONFIG, params, tokens, Hooks(gates, means, capture=LAYER_SITES))[1]
        return 3 * role_error(gates, pruned, full, batch)

    gates = {site: jnp.asarray(tau >= 0, jnp.float32) for site, tau in before.logits.items()}
    largest = 0.0
    for site, by_gate in penalty(gates).items():
        added = 10 * np.asarray(kept.opt_state[1].mu[site] - plain.opt_state[1].mu[site], np.float64)
        expected = np.asarray(by_gate, np.float64) * gradient(
            np.asarray(before.logits[site]), hyper.temperature
        )
        np.testing.assert_allclose(
            added, expected, rtol=1e-3, atol=1e-4 * np.abs(expected).max(), err_msg=site
        )
        largest = max(largest, np.abs(expected).max())
    assert largest > 1e-2
