"""Values of nodes on prompts: by hand in a program that was written by hand."""

import numpy as np
import pytest

import sparse_jax as sj
from sparse_jax.inputs import InputError
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
