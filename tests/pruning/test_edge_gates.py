"""Closed edges against a float64 reference, against closed nodes, and found by training."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special

from sparse_jax.ablation.objective import last_logits
from sparse_jax.circuits.edge_gates import gate_edges
from sparse_jax.circuits.edges import edges_between
from sparse_jax.circuits.gates import partly_open
from sparse_jax.inputs import InputError
from sparse_jax.model import forward as model_of
from sparse_jax.model import sites
from sparse_jax.model.config import ModelConfig
from sparse_jax.model.forward import initialize, param_shapes
from sparse_jax.model.hooks import Hooks, check_steady
from sparse_jax.pruning.config import PruneConfig
from sparse_jax.pruning.lanes import make_lanes, optimize_gates
from tests.compiled import forward
from tests.planted import CIRCUIT, planted_gates, planted_pairs, planted_params
from tests.planted import CONFIG as PLANTED

CONFIG = ModelConfig(
    vocab_size=12, context=8, n_layers=2, d_model=8, d_head=4, d_mlp=16, activation_fraction=None
)
SOURCES = ("attn_in", "v", "mlp_in", "mlp_neuron")


@pytest.fixture(scope="module")
def model():
    params = jax.device_get(initialize(CONFIG, jax.random.key(0)))
    params = jax.tree.map(lambda x: x * np.float32(15) if x.ndim > 2 else np.array(x), params)
    # a sink that takes much of every row, and biases that count
    params["layers"]["attn"]["sink"] = np.float32([[1.0, -1.0], [2.0, 0.5]])
    params["layers"]["mlp"]["up"]["bias"] += np.float32(0.3)
    rng = np.random.default_rng(7)
    means = {
        site: rng.normal(size=shape).astype(np.float32) for site, shape in sites.node_shapes(CONFIG).items()
    }
    return jax.device_put((params, means, rng.integers(0, 12, (3, 7)).astype(np.int32)))


def edge_gates(seed=0):
    rng = np.random.default_rng(seed)
    return {
        key: rng.integers(0, 2, shape).astype(np.float32) for key, shape in sites.edge_shapes(CONFIG).items()
    }


def expected(source, target, layer, x, pattern, linear, instead, gate):
    """What a target reads, where each closed edge carries `instead` [B, T, I] of x [B, T, I], float64."""
    kernel, bias = (np.asarray(linear[part][layer], np.float64) for part in ("kernel", "bias"))
    outcome = np.zeros((*x.shape[:2], kernel.shape[1])) + bias
    for i in range(kernel.shape[0]):
        for carried, chosen in ((x[..., i], gate[layer, i]), (instead[..., i], 1 - gate[layer, i])):
            if source == "v":
                carried = np.einsum("bts,bs->bt", pattern[:, i // CONFIG.d_head], carried)
            outcome += carried[..., None] * kernel[i] * chosen
    if target == "mlp_neuron":
        outcome = outcome * scipy.special.ndtr(outcome)
    return outcome


def ablated_as(kind, means, shape=(3, 7)):
    """Values and shares of all sites: means, random values of every token, or means and random shares."""
    rng = np.random.default_rng(4)
    values, share = dict(means), {}
    for site in sites.LAYER_SITES:
        layers, width = means[site].shape
        if kind == "token":
            values[site] = jnp.asarray(rng.normal(size=(layers, *shape, width)), jnp.float32)
        if kind == "share":
            # small enough that closing an edge is felt
            share[site] = jnp.asarray(0.3 * rng.random((layers, shape[0], 1, width)), jnp.float32)
    return values, share


@functools.partial(jax.jit, static_argnames="capture")
def gated(params, gates, values, share, tokens, at=None, capture=()):
    params, carried = gate_edges(CONFIG, params, gates, values, share)
    return model_of.forward(CONFIG, params, tokens, Hooks(carried=carried, capture=capture), at_B=at)


@jax.jit
def with_nodes(params, gates, values, share, tokens, at):
    hooks = Hooks(partly_open(gates, share), values)
    return model_of.forward(CONFIG, params, tokens, hooks, at_B=at)[0]


@pytest.mark.parametrize("kind", ["mean", "token", "share"])
def test_every_closed_edge_carries_its_source_s_ablation(model, kind):
    params, means, tokens = model
    gates, (values, share) = edge_gates(), ablated_as(kind, means)
    names = (*sites.LAYER_SITES, "pattern")
    found = gated(params, gates, values, share, tokens, capture=names)[1]
    found = {site: np.asarray(x, np.float64) for site, x in found.items()}
    assert found["pattern"].sum(-1).mean() < 0.8
    for source, target, sublayer, matrix in sites.EDGE_MATRICES:
        for layer in range(2):
            linear, key = params["layers"][sublayer][matrix], sites.edge_key(source, target)
            x, pattern = found[source][layer], found["pattern"][layer]
            value = np.asarray(values[source][layer], np.float64)
            own = np.asarray(share[source][layer], np.float64) if share else 0.0
            instead = own * x + (1 - own) * np.broadcast_to(value, x.shape)
            wanted = expected(source, target, layer, x, pattern, linear, instead, gates[key])
            np.testing.assert_allclose(found[target][layer], wanted, atol=2e-4, err_msg=f"{key} {layer}")


@pytest.mark.parametrize("kind", ["mean", "token", "share"])
@pytest.mark.parametrize("source", SOURCES)
def test_closing_all_edges_of_a_node_is_closing_the_node(model, source, kind):
    params, means, tokens = model
    # open gates at the other sources: one program serves all of them
    shapes = sites.node_shapes(CONFIG)
    nodes = {site: np.ones(shapes[site], np.float32) for site in SOURCES}
    edges = {key: np.ones(shape, np.float32) for key, shape in sites.edge_shapes(CONFIG).items()}
    nodes[source][:, 2] = 0
    for key, gate in edges.items():
        if key.startswith(f"{source}->"):
            gate[:, 2] = 0
    at = np.array([6, 2, 4])
    values, share = ablated_as(kind, means)
    whole = forward(CONFIG, params, tokens, at_B=at)[0]
    node_values, node_share = ({site: x[site] for site in SOURCES if site in x} for x in (values, share))
    by_node = with_nodes(params, nodes, node_values, node_share, tokens, at)
    by_edge = gated(params, edges, values, share, tokens, at)[0]
    np.testing.assert_allclose(by_edge, by_node, atol=1e-4)
    assert np.abs(by_node - whole).max() > 1e-2


def test_what_closed_edges_carry_token_by_token_cannot_be_sampled(model):
    params, means, _ = model
    carried = gate_edges(CONFIG, params, edge_gates(), *ablated_as("token", means))[1]
    with pytest.raises(InputError, match="hooks.carried: 'attn_in' while sampling"):
        check_steady(Hooks(carried=carried))
    with pytest.raises(InputError, match="hooks.carried: 'q' is unknown"):
        forward(CONFIG, params, jnp.zeros((1, 2), int), Hooks(carried={"q": carried["v"]}))


def test_open_edges_change_nothing(model):
    params, means, tokens = model
    gates = {key: np.ones(shape, np.float32) for key, shape in sites.edge_shapes(CONFIG).items()}
    same = gated(params, gates, means, {}, tokens)[0]
    np.testing.assert_allclose(same, forward(CONFIG, params, tokens)[0], atol=1e-5)


def test_eligible_are_the_nonzero_weights_between_open_nodes():
    params, nodes = planted_params(), planted_gates()
    eligible = edges_between(PLANTED, params, nodes)
    assert {key: int(mask.sum()) for key, mask in eligible.items() if mask.any()} == {
        "mlp_in->mlp_neuron": 1,
        "mlp_neuron->mlp_out": 1,
    }
    assert eligible["mlp_in->mlp_neuron"][0, 0, 3] == eligible["mlp_neuron->mlp_out"][0, 3, 1] == 1


@pytest.mark.parametrize(
    "ablation", ["mean", pytest.param("zero", marks=pytest.mark.slow), "resample+stochastic"]
)
def test_training_keeps_the_edges_that_the_task_needs(ablation):
    params, pairs = planted_params(), planted_pairs(8)
    means = {site: np.zeros(shape, np.float32) for site, shape in sites.node_shapes(PLANTED).items()}
    # the circuit and other nodes beside it, among which there are edges without use
    nodes = {site: np.array(gate) for site, gate in planted_gates().items()}
    for site in nodes:
        nodes[site][0, 4:7] = 1
    eligible = edges_between(PLANTED, params, nodes)
    prune = PruneConfig(
        steps=150, pairs_per_step=4, train_pairs=8, learning_rate=0.01, k_coef=0.01, ablation=ablation
    )
    lanes = dataclasses.replace(
        make_lanes(prune, 2),
        eligible={key: np.stack([mask, mask]) for key, mask in eligible.items()},
        fixed={site: np.stack([gate, gate]) for site, gate in nodes.items()},
    )
    found = optimize_gates(PLANTED, prune, params, means, [pairs], lanes)
    assert set(found.logits) == set(eligible) and found.history["open"][0, 0] > 20
    for lane in range(2):
        kept = {
            (key, *place)
            for key, tau in found.logits.items()
            for place in np.argwhere((tau[lane] >= 0) * eligible[key]).tolist()
        }
        assert kept == {("mlp_in->mlp_neuron", 0, 0, 3), ("mlp_neuron->mlp_out", 0, 3, 1)}
        assert found.history["open"][lane, -1] == 2 == len(CIRCUIT) - 1
    gates = {**nodes, **{key: np.float32(tau[0] >= 0) for key, tau in found.logits.items()}}
    logits = jax.jit(functools.partial(last_logits, PLANTED))(params, gates, means, pairs)
    assert (logits[:, 0, 4] > logits[:, 0, 5]).all() and (logits[:, 1, 5] > logits[:, 1, 4]).all()


@pytest.mark.parametrize(
    ("gates", "said"),
    [
        ({"mlp_in->mlp_neurons": (2, 8, 16)}, "gates: 'mlp_in->mlp_neurons' is not an edge; did you mean"),
        ({"attn_in->q": (2, 8, 7)}, "gates['attn_in->q']: shape (2, 8, 7); valid: (2, 8, 8)"),
    ],
)
def test_gates_that_are_no_edges_of_the_model_are_refused(model, gates, said):
    with pytest.raises(InputError) as error:
        gate_edges(CONFIG, model[0], {key: jnp.ones(shape) for key, shape in gates.items()}, model[1])
    assert said in str(error.value)


def test_a_model_without_biases_has_no_place_for_means(model):
    config = dataclasses.replace(CONFIG, bias=False)
    with pytest.raises(InputError, match="model.bias: False"):
        gate_edges(config, param_shapes(config), edge_gates(), model[1])
