"""Values of nodes on prompts: by hand in a program that was written by hand."""

import numpy as np
import pytest

import sparse_jax as sj
from sparse_jax.inputs import InputError
from sparse_jax.meaning.traces import Head
from sparse_jax.model.forward import forward
from sparse_jax.model.hooks import Hooks


def test_values_are_those_of_both_runs_up_to_the_end_of_each_prompt(quotes):
    program, circuit = quotes
    traces = sj.trace(program.model, circuit, program.task, pairs=2)
    pairs = program.task.pairs("test", 2, 0)
    texts = [text for pair in pairs for text in (pair.prompt, pair.counterfactual)]
    assert ["".join(prompt) for prompt in traces.prompts] == texts
    assert traces.answers == tuple(a for pair in pairs for a in (pair.answer, pair.wrong))
    for number, prompt in enumerate(traces.prompts):
        # the embedding writes 1 at a double quote, which the first neuron passes on
        is_quote = [token == '"' for token in prompt]
        np.testing.assert_allclose(traces.in_circuit["0.mlp_in.1"][number], is_quote, atol=0.02)
        np.testing.assert_allclose(traces.in_model["0.mlp_neuron.0"][number], is_quote, atol=0.02)
    tokens = program.task.encode("test", 2, 0, program.model.tokenizer, 8).tokens.reshape(4, -1)
    full = forward(program.model.config, program.model.params, tokens, Hooks(capture=("attn_out",)))[1]
    for number, prompt in enumerate(traces.prompts):
        expected = full["attn_out"][1, number, : len(prompt), 5]
        np.testing.assert_allclose(traces.in_model["1.attn_out.5"][number], expected, atol=1e-6)
    saved = traces.to_json()
    assert saved["circuit"].keys() == {node.name for node in circuit.nodes}
    assert len(saved["model"]["0.mlp_in.1"][3]) == len(saved["prompts"][3])
    assert repr(traces) == f"Traces(quotes: {len(circuit.nodes)} nodes on 4 prompts)"


def test_a_circuit_of_another_model_is_refused(quotes):
    program, circuit = quotes
    other = sj.load("experiments/results/small/sparse")
    with pytest.raises(InputError, match="^circuit: it belongs to model"):
        sj.trace(other, circuit, "for_while")


def test_heads_are_those_with_nodes_and_look_as_in_each_run(quotes):
    program, circuit = quotes
    traces = sj.trace(program.model, circuit, program.task, pairs=2)
    config = program.model.config
    inside = [node for node in circuit.nodes if node.site in ("q", "k", "v")]
    assert [(head.layer, head.number) for head in traces.heads] == sorted(
        {(node.layer, node.index // config.d_head) for node in inside}
    )
    tokens = program.task.encode("test", 2, 0, program.model.tokenizer, 8).tokens.reshape(4, -1)
    captured = forward(config, program.model.params, tokens, Hooks(capture=("pattern",)))[1]["pattern"]
    for head in traces.heads:
        for number, prompt in enumerate(traces.prompts):
            size = len(prompt)
            expected = captured[head.layer, number, head.number, :size, :size]
            np.testing.assert_allclose(head.in_model[number], expected, atol=1e-6)
            assert head.in_circuit[number].shape == (size, size)
    saved = traces.to_json()["heads"][0]
    assert [len(row) for row in saved["circuit"][0]] == list(range(1, len(traces.prompts[0]) + 1))


def test_a_head_without_queries_and_keys_is_uniform():
    """Its scores are the same at every token, so that it averages; one other row is enough to deny it."""
    even = np.tril(np.ones((4, 4))) / np.arange(2, 6)[:, None]  # the sink takes a share too
    uneven = even.copy()
    uneven[3, 1] *= 1.1
    assert Head(0, 0, [even], [uneven]).is_uniform
    assert not Head(0, 0, [even, uneven], [even]).is_uniform


def test_uniform_heads_are_found_in_a_pruned_model(quotes):
    program, circuit = quotes
    valueless = [node for node in circuit.nodes if node.site in ("q", "k")]
    (head,) = sj.trace(program.model, circuit, program.task).heads
    assert head.is_uniform == (not valueless)
