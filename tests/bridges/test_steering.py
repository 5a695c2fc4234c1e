"""Steering against vectors worked out by hand, and a planted pair in which it must work."""

import jax
import numpy as np
import pytest

from sparse_jax.bridges.hybrid import run
from sparse_jax.bridges.steering import bridge_addition, control_additions, node_effects, steered, streams
from sparse_jax.inputs import InputError
from sparse_jax.tasks.encode import EncodedPairs
from tests.bridges.pairs import exact_pair, random_pair
from tests.compiled import forward

# the second pair's members differ in length
PAIRS = EncodedPairs(
    np.array([[[1, 2, 3, 4], [1, 5, 3, 4]], [[2, 6, 7, 0], [9, 2, 8, 7]]], np.int32),
    np.array([[3, 3], [2, 3]], np.int32),
    np.array([[[10, 11], [11, 10]], [[10, 11], [11, 10]]], np.int32),
)


def last_logits(pair, on):
    """Of the dense model."""
    return np.asarray(forward(pair.dense.config, pair.dense.params, on.tokens, at_B=on.last)[0])


def probabilities(logits, on):
    e = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return (e / e.sum(axis=-1, keepdims=True))[np.arange(4), np.asarray(on.answers)[:, 1]]


def test_changes_are_aligned_at_the_last_tokens():
    pair = random_pair()
    on = streams(pair, PAIRS)
    tokens = PAIRS.tokens.reshape(4, 4)
    _, stream = jax.jit(lambda params: run(pair.dense.config, params, tokens))(pair.dense.params)
    stream = np.stack(stream)
    np.testing.assert_allclose(on.dense, stream, atol=1e-5)
    # member 2 has its last token at 2, its counterfactual at 3
    np.testing.assert_allclose(on.dense_change[:, 2, 1], stream[:, 3, 2] - stream[:, 2, 1], atol=1e-5)
    np.testing.assert_allclose(on.dense_change[:, 3, 3], stream[:, 2, 2] - stream[:, 3, 3], atol=1e-5)
    assert not np.any(on.dense_change[:, 2, 3])


def test_the_addition_is_change_times_row_times_ratio():
    pair = random_pair()
    on = streams(pair, PAIRS)
    change = np.asarray(on.sparse_change)[2, 0, 3, 1]
    row = np.asarray(pair.bridges["decoder"]["kernel"])[2, 1]
    dense, sparse = (np.asarray(x)[2, 0, 3] for x in (on.dense, on.sparse))
    ratio = np.sqrt(np.mean(dense**2)) / np.sqrt(np.mean(sparse**2))
    found = bridge_addition(pair, "1.attn_in.1", on)
    assert abs(change) > 1e-3
    np.testing.assert_allclose(found[0, 3], change * row * ratio, rtol=1e-4)
    np.testing.assert_allclose(
        bridge_addition(pair, "1.attn_in.1", on, scaled=False)[0, 3], change * row, rtol=1e-4
    )


@pytest.mark.parametrize("node", ["0.mlp_in.2", "2.final_resid.2"])
def test_strength_scales_what_is_added_and_0_changes_nothing(node):
    pair = random_pair()
    on = streams(pair, PAIRS)
    addition = bridge_addition(pair, node, on)
    none, half = steered(pair, node, on, addition, [0, 0.5])
    logits = last_logits(pair, on)
    np.testing.assert_allclose(none, probabilities(logits, on), rtol=1e-4)
    np.testing.assert_allclose(half, steered(pair, node, on, addition / 2, [1])[0], rtol=1e-4)
    assert np.abs(half - none).max() > 1e-4


def test_the_whole_stream_gives_the_other_answer_and_controls_have_the_norm_of_the_addition():
    pair = random_pair()
    on = streams(pair, PAIRS)
    node = "2.final_resid.2"
    controls = control_additions(pair, node, on, on, 3, seed=0)
    logits = last_logits(pair, on)
    # at the last location the counterfactual's stream gives its logits; there is no bigram table
    swapped = probabilities(logits[np.arange(4) ^ 1], on)
    np.testing.assert_allclose(steered(pair, node, on, *controls["whole stream"], [1])[0], swapped, rtol=1e-4)
    norm = np.linalg.norm(bridge_addition(pair, node, on), axis=-1)
    assert [len(controls[name]) for name in controls] == [1, 3, 1, 1]
    for control in (*controls["random node"], *controls["difference of means"]):
        np.testing.assert_allclose(np.linalg.norm(control, axis=-1), norm, rtol=1e-4, atol=1e-6)


def test_in_an_exact_pair_a_node_does_in_one_model_what_it_does_in_the_other():
    """The two streams have the same norm, and the addition is the change itself."""
    pair = exact_pair()
    on = streams(pair, PAIRS)
    nodes = ["0.attn_in.1", "1.mlp_in.0", "2.final_resid.4", "0.mlp_neuron.3"]
    effects = node_effects(pair, nodes, on)
    assert list(effects) == nodes[:3]
    for node, effect in effects.items():
        before, after = steered(pair, node, on, bridge_addition(pair, node, on), [0, 1]).mean(axis=1)
        np.testing.assert_allclose(after - before, effect, atol=1e-5)
    assert max(map(abs, effects.values())) > 1e-3


def test_wrong_input_is_named():
    pair = random_pair()
    on = streams(pair, PAIRS)
    with pytest.raises(InputError, match="node '0.q.1': it reads no single residual channel"):
        bridge_addition(pair, "0.q.1", on)
    with pytest.raises(InputError, match="strength: 1.5 is not valid; valid: 0 to 1"):
        steered(pair, "0.attn_in.1", on, on.dense_change[0], [1.5])
    with pytest.raises(InputError, match="random nodes: 8 is not valid; valid: 0 to 7"):
        control_additions(pair, "0.attn_in.1", on, on, 8, 0)
    with pytest.raises(InputError, match="at least one of attn_in"):
        node_effects(pair, ["0.q.1"], on)
