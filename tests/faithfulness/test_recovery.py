"""Precision, recall and AUROC against tables worked out by hand; the rankings that are compared by them."""

import doctest
import itertools

import jax
import numpy as np
import pytest
from scipy import stats

from sparse_jax.faithfulness import known_programs, recovery
from sparse_jax.faithfulness.known_programs import make_program
from sparse_jax.faithfulness.planted import PAIRS, TARGET
from sparse_jax.faithfulness.rankings import METHODS, edge_attribution, measure_recovery
from sparse_jax.faithfulness.recovery import auroc, circuit_overlap, overlap, ranking_auroc
from sparse_jax.inputs import InputError
from sparse_jax.model import sites
from sparse_jax.model.forward import forward
from sparse_jax.model.hooks import Hooks
from sparse_jax.tasks.metrics import binary_loss


@pytest.mark.parametrize(
    ("scores", "truth", "expected"),
    [
        # 2 true x 3 false: 5 above -> wins 3, 2 above (1, 1) -> wins 2 of 3
        ([5, 2, 4, 1, 1], [1, 1, 0, 0, 0], 5 / 6),
        # 3 ties with 3 and beats 1; 0 loses to both
        ([3, 0, 3, 1], [1, 1, 0, 0], 1.5 / 4),
        ([7, 7, 7], [1, 0, 0], 0.5),
        ([1, 2], [1, 0], 0.0),
        ([np.inf, 2], [1, 0], 1.0),
    ],
)
def test_auroc_by_hand(scores, truth, expected):
    assert auroc(np.array(scores, float), np.array(truth)) == pytest.approx(expected, abs=1e-12)


def test_auroc_is_mann_whitneys_u_with_ties():
    rng = np.random.default_rng(0)
    for _ in range(20):
        scores, truth = rng.integers(0, 4, (5, 8)), rng.random((5, 8)) < 0.4
        u = stats.mannwhitneyu(scores[truth], scores[~truth]).statistic
        pairs = [(a > b) + (a == b) / 2 for a, b in itertools.product(scores[truth], scores[~truth])]
        assert auroc(scores, truth) == pytest.approx(u / len(pairs)) == pytest.approx(np.mean(pairs))


@pytest.mark.parametrize(
    ("found", "truth", "expected"),
    [
        # 2 hits of 3 found and 4 true
        ([1, 1, 1, 0, 0, 0], [1, 1, 0, 1, 1, 0], (2 / 3, 1 / 2, 4 / 7)),
        ([0, 0], [1, 0], (0, 0, 0)),
        ([0, 1], [1, 0], (0, 0, 0)),
        ([1, 0], [1, 0], (1, 1, 1)),
    ],
)
def test_precision_and_recall_by_hand(found, truth, expected):
    assert overlap(np.array(found), np.array(truth)) == pytest.approx(expected)


def test_wrong_inputs_are_named():
    ones = np.ones(3)
    with pytest.raises(
        InputError, match=r"found: \(3,\) is not valid; valid: the shape of the truth, \(2,\)"
    ):
        overlap(ones, np.ones(2))
    with pytest.raises(InputError, match="truth: 'empty'"):
        overlap(ones, np.zeros(3))
    with pytest.raises(InputError, match="truth: '3 true, 0 false'"):
        auroc(ones, ones)
    with pytest.raises(InputError, match="scores: 'NaN'"):
        auroc(np.array([np.nan, 1]), np.array([0, 1]))
    program = make_program("copy")
    with pytest.raises(InputError, match="found: 'attn_in' is missing"):
        circuit_overlap(program, {})
    with pytest.raises(InputError, match="scores: 'attn_in' is missing"):
        ranking_auroc(program, {"q": ones})
    with pytest.raises(InputError, match=r"method: 'magnitud' is unknown; did you mean 'magnitude'\?"):
        measure_recovery(program, "magnitud")


@pytest.fixture(scope="module")
def quotes():
    return make_program("quotes")


def test_a_circuit_is_compared_with_the_truth(quotes):
    assert circuit_overlap(quotes, quotes.truth) == ((1, 1, 1), (1, 1, 1))
    gates = quotes.truth.gates(quotes.model.config)
    nodes = {site: gates[site].copy() for site in sites.LAYER_SITES}
    nodes["attn_in"][1] = 0  # two of 12 nodes, with two of 9 edges
    nodes["mlp_in"][1, :3] = 1  # three others, without any
    found_nodes, found_edges = circuit_overlap(quotes, nodes)
    assert found_nodes == pytest.approx((10 / 13, 10 / 12, 20 / 25))
    assert found_edges == pytest.approx((1, 7 / 9, 14 / 16))


def test_rankings_of_nodes_and_edges_are_compared_with_the_truth(quotes):
    masks = quotes.masks()
    nodes = {site: masks[site] for site in sites.LAYER_SITES}
    edges = {name: mask for name, mask in masks.items() if sites.is_edge(name)}
    assert ranking_auroc(quotes, nodes) == 1
    assert ranking_auroc(quotes, {site: -mask for site, mask in nodes.items()}) == 0
    assert ranking_auroc(quotes, {site: 0 * mask for site, mask in nodes.items()}) == 0.5
    assert ranking_auroc(quotes, edges) is None  # all its weights are edges of the circuit
    distractor = make_program("distractor")
    masks = {name: mask for name, mask in distractor.masks().items() if sites.is_edge(name)}
    assert ranking_auroc(distractor, masks) == 1
    # 17 other weights; a true one of two and one other rank last
    masks["mlp_in->mlp_neuron"][0, 1, 0] = -1
    masks["mlp_in->mlp_neuron"][0, 1, 1] = -1
    assert ranking_auroc(distractor, masks) == pytest.approx(
        (others(distractor) + 0.5) / (2 * others(distractor))
    )


def others(program):
    """The number of weights that are no edges of the circuit."""
    layers = program.model.params["layers"]
    weights = [np.asarray(layers[sub][matrix]["kernel"]) for _, _, sub, matrix in sites.EDGE_MATRICES]
    return sum(map(np.count_nonzero, weights)) - len(program.edges)


def test_attribution_of_an_edge_is_gradient_times_weight_times_change(quotes):
    """Against gradients at the target's values, from captured values of the source."""
    config, params, pairs = quotes.model.config, quotes.model.params, quotes.pairs("train")
    found = edge_attribution(quotes)["mlp_neuron->mlp_out"]
    weight = np.asarray(params["layers"]["mlp"]["down"]["kernel"])

    def loss(added, tokens, candidates):
        hooks = Hooks(additions={"mlp_out": added}, capture=("mlp_neuron",))
        logits, captured = forward(config, params, tokens.reshape(-1, tokens.shape[-1]), hooks)
        return binary_loss(logits[:, -1].reshape(-1, 2, config.vocab_size), candidates).sum(), captured

    zeros = np.zeros((config.n_layers, 2 * PAIRS["train"], config.context, config.d_model), np.float32)
    gradient, captured = jax.jit(jax.grad(loss, has_aux=True))(zeros, pairs.tokens, pairs.candidates)
    change = np.asarray(captured["mlp_neuron"]) - np.asarray(quotes.values["mlp_neuron"])[:, None, None]
    by_pair = (
        array.reshape(config.n_layers, PAIRS["train"], -1, array.shape[-1]) for array in (change, gradient)
    )
    effects = np.einsum("lpti,lptj->lpij", *by_pair) * weight[:, None]
    np.testing.assert_allclose(found, np.abs(effects).mean(axis=1), rtol=1e-3, atol=1e-7)
    assert found.max() > 1e-3


@pytest.mark.slow
def test_learned_gates_find_the_circuit_and_no_baseline_finds_more(quotes):
    found = {method: measure_recovery(quotes, method) for method in METHODS}
    learned = found["learned"]
    assert learned["loss"] < 0.01
    for name in ("node_precision", "node_recall", "edge_precision", "edge_recall", "node_auroc"):
        assert learned[name] == 1
    assert learned["edge_auroc"] is None
    assert found["random"]["node_precision"] < 0.5 and 0.2 < found["random"]["node_auroc"] < 0.8


def test_distractors_mislead_magnitude():
    """All their weights are as large as those of the circuit."""
    found = measure_recovery(make_program("distractor"), "magnitude")
    assert found["loss"] < TARGET and found["node_recall"] == 1
    assert found["node_precision"] < 0.5 and found["node_auroc"] < 0.98 and found["edge_auroc"] < 0.7


@pytest.mark.parametrize("module", [known_programs, recovery])
def test_the_examples_run(module):
    result = doctest.testmod(module)
    assert result.attempted > 0 and result.failed == 0
