"""Attention with a sink, against rows worked by hand, a float64 reference and finite differences."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from sparse_jax.model import attention
from sparse_jax.model.attention import attend, attention_pattern
from sparse_jax.topk import chunks

pytestmark = pytest.mark.accelerator


def causal(tokens):
    return np.tril(np.ones((tokens, tokens), bool))


@functools.partial(jax.jit, static_argnums=3)
def pattern_of(q, k, sink, d_head, visible):
    return attention_pattern(q, k, sink, d_head, visible)


def test_attention_with_a_sink_against_a_hand_worked_row():
    # one head, d_head 1, scale 1: scores of the second query are 0 and ln 3, its sink ln 4
    q, k = jnp.array([[[1.0], [1.0]]]), jnp.array([[[0.0], [np.log(3.0)]]])
    pattern = pattern_of(q, k, jnp.array([np.log(4.0)]), 1, causal(2))
    np.testing.assert_allclose(np.asarray(pattern)[0, 0], [[1 / 5, 0], [1 / 8, 3 / 8]], rtol=1e-6)
    without = np.asarray(pattern_of(q, k, None, 1, causal(2)))
    np.testing.assert_allclose(without[0, 0, 1], [1 / 4, 3 / 4], rtol=1e-6)


def test_the_gradient_of_attention_with_a_sink_is_exact():
    q, k, _, sink = drawn(1, 5, 4, 2)

    @jax.jit
    def value(q, k, sink):
        return jnp.sum(jnp.sin(3 * attention_pattern(q, k, sink, 2, causal(5))))

    check_grads(value, (q, k, sink), order=1, modes=["rev"], atol=2e-2, rtol=2e-2)


def in_float64(q, k, v, sink, d_head, visible):
    """Every head of every sequence in a loop, with the whole matrix of scores."""
    q, k, v = (np.asarray(x, np.float64) for x in (q, k, v))
    read = np.zeros(q.shape)
    for b, h in np.ndindex(len(q), q.shape[-1] // d_head):
        own = slice(h * d_head, (h + 1) * d_head)
        weights = (
            np.exp(q[b, :, own] @ k[b, :, own].T / np.sqrt(d_head))
            * np.broadcast_to(visible, (len(q),) + visible.shape[-2:])[b]
        )
        total = weights.sum(-1, keepdims=True) + (0 if sink is None else np.exp(np.float64(sink[h])))
        read[b, :, own] = weights / total @ v[b, :, own]
    return read


def drawn(sequences, tokens, width, heads):
    rng = np.random.default_rng(tokens)
    q, k, v = rng.normal(size=(3, sequences, tokens, width)).astype(np.float32)
    return q, k, v, rng.normal(size=heads).astype(np.float32)


def branches(sequences, tokens):
    """A mask of its own for each sequence: tokens of the second half do not see some of the first."""
    hidden = (np.arange(tokens)[:, None] >= tokens // 2) & (np.arange(tokens) < tokens // 2)
    start = np.arange(sequences)[:, None, None]
    return np.tril(np.ones((tokens, tokens), bool)) & ~(hidden & (np.arange(tokens) >= start))


@pytest.mark.parametrize("tokens", [1, 3, 63, 64, 65, 200])
@pytest.mark.parametrize("sink", [True, False])
def test_what_is_read_is_that_of_the_whole_pattern(tokens, sink):
    q, k, v, sinks = drawn(3, tokens, 8, 2)
    sinks = sinks if sink else None
    masks = causal(tokens), branches(3, tokens)
    run = jax.jit(lambda *given: [attend(*given, 4, visible) for visible in masks])
    for found, visible in zip(run(q, k, v, sinks), masks):
        np.testing.assert_allclose(found, in_float64(q, k, v, sinks, 4, visible), atol=2e-6)


@pytest.fixture
def lone_cpu(monkeypatch):
    """As on a machine with one device, where sequences take turns."""
    monkeypatch.setattr(jax, "device_count", lambda: 1)


def whole(q, k, v, sink, d_head, visible):
    """The same by way of the pattern."""
    pattern = attention_pattern(q, k, sink, d_head, visible)
    split = v.reshape(*v.shape[:-1], -1, d_head)
    return jnp.einsum("bhts,bshk->bthk", pattern, split).reshape(q.shape)


TOKENS = 150


def gradients(read):
    """By every input, with each kind of mask."""
    given = drawn(12, TOKENS, 8, 2)

    def of(visible, given):
        value = jax.grad(lambda *given: jnp.sum(jnp.sin(3 * read(*given, 4, visible))), (0, 1, 2, 3))
        return value(*given)

    masks = causal(TOKENS), branches(12, TOKENS)
    return jax.jit(lambda *given: [one for visible in masks for one in of(visible, given)])(*given)


@pytest.fixture(scope="module")
def expected_gradients():
    """By way of the pattern, which knows of no turns."""
    return gradients(whole)


@pytest.mark.parametrize("at_once", [0.5, 1, 2, 12])
def test_gradients_are_those_of_the_whole_pattern_however_sequences_take_turns(
    monkeypatch, lone_cpu, at_once, expected_gradients
):
    monkeypatch.setattr(chunks, "CACHE_BYTES", int(at_once * 4 * 2 * attention.BLOCK * TOKENS))
    for one, other in zip(gradients(attend), expected_gradients, strict=True):
        np.testing.assert_allclose(one, other, atol=2e-5)


@pytest.mark.parametrize("fit, together", [(0, 1), (1, 1), (5, 4), (6, 6), (11, 6), (12, 12), (40, 12)])
def test_as_many_heads_as_fit_divide_all(monkeypatch, lone_cpu, fit, together):
    monkeypatch.setattr(chunks, "CACHE_BYTES", fit * 100)
    assert attention.heads_at_once(12, 100) == together
    monkeypatch.setattr(jax, "device_count", lambda: 2)
    assert attention.heads_at_once(12, 100) == 12


def test_gradients_against_finite_differences(monkeypatch):
    monkeypatch.setattr(attention, "BLOCK", 2)
    q, k, v, sink = drawn(2, 5, 4, 2)
    value = jax.jit(lambda *given: jnp.sum(jnp.sin(3 * attend(*given, 2, causal(5)))))
    check_grads(value, (q, k, v, sink), order=1, modes=["rev"], atol=2e-2, rtol=2e-2)


def test_lanes_and_large_scores_stay_finite_and_exact():
    q, k, v, sink = drawn(4, 70, 8, 2)
    many = np.stack([q, 60 * q])
    found = jax.jit(jax.vmap(lambda q: attend(q, k, v, sink, 4, causal(70))))(many)
    for one, given in zip(found, many):
        np.testing.assert_allclose(one, in_float64(given, k, v, sink, 4, causal(70)), atol=2e-5)


def test_no_whole_pattern_is_held(lone_cpu):
    given = drawn(32, 256, 32, 4)

    def temporary(read):
        # with keys and values that are constants, it would be computed with while compiling, slowly
        gradients = jax.jit(jax.grad(lambda *given: read(*given, 8, causal(256)).sum()))
        return gradients.lower(*given).compile().memory_analysis().temp_size_in_bytes

    assert temporary(attend) < 0.5 * temporary(whole)


def test_bfloat16_in_bfloat16_out():
    q, k, v, sink = drawn(2, 70, 8, 2)
    half = [x.astype(jnp.bfloat16) for x in (q, k, v)]
    found = jax.jit(lambda *given: attend(*given, sink, 4, causal(70)))(*half)
    assert found.dtype == jnp.bfloat16
    exact = in_float64(*(np.asarray(x, np.float32) for x in half), sink, 4, causal(70))
    np.testing.assert_allclose(np.asarray(found, np.float32), exact, atol=0.03)
