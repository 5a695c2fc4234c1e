import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from sparse_jax.inputs import InputError
from sparse_jax.sparsity.config import SparsityConfig
from sparse_jax.sparsity.projection import project
from sparse_jax.sparsity.rules import sparse_leaves
from sparse_jax.trees import named_leaves
from tests.sparsity.trees import small_params

pytestmark = pytest.mark.accelerator

TOTAL = 40
CONFIG = SparsityConfig(0.55, anneal_start=0.1, anneal_end=0.5)


@pytest.fixture(scope="module")
def run():
    """40 updates by random gradients: (params before each, params, masks after each, number of traces)."""
    chain = optax.chain(optax.adam(0.05), project(CONFIG, TOTAL))
    params, rng, traces = small_params(), np.random.default_rng(0), []
    state = chain.init(params)

    @jax.jit
    def step(params, state, gradient):
        traces.append(1)
        updates, state = chain.update(gradient, state, params)
        return optax.apply_updates(params, updates), state, updates

    history = []
    for _ in range(TOTAL):
        gradient = jax.tree.map(lambda p: np.float32(rng.normal(size=p.shape)), params)
        before, (params, state, updates) = params, step(params, state, gradient)
        history.append(
            {
                "before": named_leaves(before),
                "updates": named_leaves(updates),
                "after": named_leaves(params),
                "masks": named_leaves(state[-1].masks),
            }
        )
    return history, len(traces), state


def expected_count(size, update):
    """Linear from all to int(0.55 size) between updates 4 and 20."""
    target = int(0.55 * size)
    left = 1 - min(max((update - 4) / 16, 0), 1)
    return target + int(np.float32(size - target) * np.float32(left))


def test_every_matrix_has_exactly_its_budget_after_every_update(run):
    history, _, _ = run
    for update, record in enumerate(history, start=1):
        for name, leaf in sparse_leaves(CONFIG, small_params()).items():
            nonzero = np.count_nonzero(np.reshape(record["after"][name], (leaf.stack_shape[0], -1)), axis=1)
            assert nonzero.tolist() == [expected_count(leaf.size, update)] * leaf.stack_shape[0], name


@pytest.mark.parametrize("dtype", [pytest.param("float32", marks=pytest.mark.slow), "bfloat16"])
def test_the_budget_is_kept_for_thousands_of_updates(dtype):
    """Gradients as a step computed in this type makes them: bfloat16 has many that are equal."""
    total = 2000
    chain = optax.chain(optax.sgd(0.05), project(CONFIG, total))

    def step(carry, key):
        params, state = carry
        keys = jax.random.split(key, len(jax.tree.leaves(params)))
        keys = jax.tree.unflatten(jax.tree.structure(params), list(keys))
        gradient = jax.tree.map(
            lambda p, k: jax.random.normal(k, p.shape, dtype).astype(p.dtype), params, keys
        )
        updates, state = chain.update(gradient, state, params)
        params = optax.apply_updates(params, updates)
        leaves = sparse_leaves(CONFIG, params)
        kept = {name: jnp.count_nonzero(named_leaves(params)[name]) for name in leaves}
        return (params, state), kept

    params = small_params()
    start = params, chain.init(params)
    (_, state), kept = jax.jit(
        lambda: jax.lax.scan(step, start, jax.random.split(jax.random.key(0), total))
    )()
    for name, leaf in sparse_leaves(CONFIG, params).items():
        stack = leaf.stack_shape[0]
        assert set(kept[name][total // 2 :].tolist()) == {stack * int(0.55 * leaf.size)}, name
        assert np.count_nonzero(named_leaves(state[-1].masks)[name]) == stack * int(0.55 * leaf.size)


def test_each_channel_keeps_its_minimum(run):
    final = run[0][-1]["after"]
    for name, axis in [("up", 1), ("down", 2)]:
        assert np.count_nonzero(final[f"layers/mlp/{name}/kernel"], axis=axis).min() >= 4
    for name, axis in [("q", 1), ("k", 1), ("v", 1), ("out", 2)]:
        assert np.count_nonzero(final[f"layers/attn/{name}/kernel"], axis=axis).min() >= 4


def test_a_dropped_update_is_minus_the_weight_and_a_kept_one_is_untouched(run):
    record = run[0][20]
    plain = {name: record["before"][name] + record["updates"][name] for name in record["before"]}
    for name, mask in record["masks"].items():
        dropped = ~np.asarray(mask)
        assert dropped.any()
        np.testing.assert_array_equal(
            np.asarray(record["updates"][name])[dropped], -np.asarray(record["before"][name])[dropped]
        )
        assert not np.asarray(record["after"][name])[dropped].any()
        np.testing.assert_array_equal(np.asarray(record["after"][name])[mask], np.asarray(plain[name])[mask])


def test_the_largest_weights_after_the_update_are_kept_and_dense_leaves_pass():
    transform = project(SparsityConfig(0.5, schedule="constant"), 2)
    params = {"embed": {"kernel": jnp.array([[4.0, 1.0], [-3.0, 0.5]])}, "logit_bias": jnp.ones(2)}
    updates = {"embed": {"kernel": jnp.array([[-3.5, 0.1], [0.0, 1.5]])}, "logit_bias": jnp.array([0.1, 0])}
    projected, state = transform.update(updates, transform.init(params), params)
    np.testing.assert_array_equal(state.masks["embed"]["kernel"], [[False, False], [True, True]])
    np.testing.assert_array_equal(projected["embed"]["kernel"], [[-4.0, -1.0], [0.0, 1.5]])
    assert state.masks["logit_bias"] is None and projected["logit_bias"] is updates["logit_bias"]


def test_exactly_the_sparse_leaves_have_masks(run):
    assert set(run[0][-1]["masks"]) == set(sparse_leaves(CONFIG, small_params()))


def test_annealing_does_not_recompile(run):
    assert run[1] == 1


def test_a_dropped_weight_comes_back_when_its_update_is_large():
    transform = project(SparsityConfig(0.5, schedule="constant"), 2)
    params = {"embed": {"kernel": jnp.array([[2.0, 1.0]])}}
    state = transform.init(params)
    for change, expected in [([0.0, 0.5], [2.0, 0.0]), ([0.1, -3.0], [0.0, -3.0])]:
        updates, state = transform.update({"embed": {"kernel": jnp.array([change])}}, state, params)
        params = optax.apply_updates(params, updates)
        np.testing.assert_array_equal(params["embed"]["kernel"], [expected])


def test_state_goes_through_a_flattening_and_keeps_shape_and_type(run):
    state = run[2][-1]
    fresh = project(CONFIG, TOTAL).init(small_params())
    assert jax.tree.structure(state) == jax.tree.structure(fresh)
    assert jax.tree.map(lambda x: (x.shape, x.dtype), state) == jax.tree.map(
        lambda x: (x.shape, x.dtype), fresh
    )
    assert state.count == TOTAL


def test_a_dense_config_changes_nothing():
    transform, params = project(SparsityConfig(1.0), 10), small_params()
    updates = jax.tree.map(lambda p: p * 0.1, params)
    projected, state = transform.update(updates, transform.init(params), params)
    assert jax.tree.all(jax.tree.map(lambda a, b: (a == b).all(), projected, updates))
    assert not jax.tree.leaves(state.masks) and state.count == 1


def test_shardings_are_kept():
    mesh = jax.make_mesh((1,), ("model",), axis_types=(AxisType.Auto,))
    sharding = NamedSharding(mesh, PartitionSpec(None, None, "model"))
    params = {"layers": {"mlp": {"up": {"kernel": jax.device_put(jnp.ones((2, 8, 16)), sharding)}}}}
    transform = project(SparsityConfig(0.6), 10)
    projected, state = jax.jit(transform.update)(params, transform.init(params), params)
    for tree in (projected, state.masks):
        assert tree["layers"]["mlp"]["up"]["kernel"].sharding.is_equivalent_to(sharding, 3)


def test_what_cannot_be_projected_is_refused():
    transform, params = project(SparsityConfig(0.6), 10), small_params()
    state = transform.init(params)
    half = jax.tree.map(lambda p: p.astype(jnp.bfloat16), params)
    with pytest.raises(InputError, match="updates: embed/kernel is bfloat16"):
        transform.update(half, state, params)
    with pytest.raises(InputError, match="params: embed/kernel is bfloat16"):
        transform.update(params, state, half)
    with pytest.raises(InputError, match="params: None"):
        transform.update(params, state)
    with pytest.raises(InputError, match="sparsity.fraction"):
        project(SparsityConfig(0.1), 10).init(params)
