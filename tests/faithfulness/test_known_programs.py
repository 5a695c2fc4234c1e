"""Programs written as weights do what they say, with all nodes and edges of their circuits and no others."""

import dataclasses
import functools
import re

import jax
import numpy as np
import pytest

from sparse_jax.circuits.graph import from_json
from sparse_jax.data.tokenizer import encode_texts
from sparse_jax.faithfulness.extras import with_extras
from sparse_jax.faithfulness.known_programs import PROGRAMS, make_program
from sparse_jax.faithfulness.planted import LEVEL, TARGET, params_of
from sparse_jax.inputs import InputError
from sparse_jax.model import sites
from sparse_jax.model.forward import forward
from sparse_jax.model.hooks import Hooks

TABLE = {"p": "y", "q": "n", "r": "n", "s": "y"}


def _followed_before(prompt):
    return prompt[prompt.index(prompt[-1]) + 1]


def _asked_sign(prompt):
    letter = re.search("[Aa]" if "1" in prompt else "[Bb]", prompt)[0]
    return "+" if letter.isupper() else "-"


# The same functions of the text, written without looking at the programs.
ORACLES = {
    "copy": lambda prompt: re.search("[ab]", prompt)[0],
    "induction": _followed_before,
    "brackets": lambda prompt: "d" if prompt.count("(") - prompt.count(")") >= 2 else "s",
    "quotes": lambda prompt: re.search("[\"']", prompt)[0],
    "counting": lambda prompt: "y" if prompt.count("a") == 2 else "n",
    "lookup": lambda prompt: TABLE[prompt[-1]],
    "composition": _asked_sign,
    "distractor": lambda prompt: prompt[-1],
}
# Nodes and edges, counted in the docstrings: the wires, and a query for each key.
SIZES = {
    "copy": (7, 4),
    "induction": (16, 12),
    "brackets": (6, 4),
    "quotes": (12, 9),
    "counting": (7, 6),
    "lookup": (5, 6),
    "composition": (14, 8),
    "distractor": (3, 2),
}


SITES = ("resid_in", "attn_in", "attn_out", "mlp_neuron")


@pytest.fixture(scope="module", params=PROGRAMS)
def program(request):
    return make_program(request.param)


@functools.partial(jax.jit, static_argnums=0)
def run(config, params, tokens):
    return forward(config, params, tokens, Hooks(capture=SITES))


def run_all(program):
    """All prompts, the logits of the next token, and the values at SITES."""
    model = program.model
    prompts = [text for pair in program.task.source for text in (pair.prompt, pair.counterfactual)]
    logits, captured = run(model.config, model.params, np.array(encode_texts(model.tokenizer, prompts)))
    return prompts, logits[:, -1], {site: np.asarray(values) for site, values in captured.items()}


def test_the_answers_are_those_of_the_same_function_in_python(program):
    """Over all prompts, and among all symbols; and the norms change nothing."""
    oracle = ORACLES[program.name]
    for pair in program.task.source:
        assert (oracle(pair.prompt), oracle(pair.counterfactual)) == (pair.answer, pair.wrong)
    prompts, logits, captured = run_all(program)
    assert len(set(prompts)) == 1024
    best = np.asarray(logits.argmax(axis=-1))
    assert program.model.tokenizer.decode_batch(best[:, None].tolist()) == [oracle(p) for p in prompts]
    stream, read = captured["resid_in"], captured["attn_in"]
    assert np.abs(stream - read)[..., 1:].max() < 0.01 * np.abs(stream[..., 1:]).max()
    assert np.abs(read[..., 0] / LEVEL - 1).max() < 0.01


def test_the_circuit_has_the_nodes_and_edges_of_its_docstring(program):
    assert (len(program.truth.nodes), len(program.truth.edges)) == SIZES[program.name]
    assert from_json(program.truth.to_json()) == program.truth


def closed_in_turn(program, gates):
    """True nodes (a query with its key) and edges; the loss of `gates`, and that with each closed alone."""
    keys = {(layer, "k", i) for layer, site, i in program.nodes if site == "q"}
    units = [*sorted(program.nodes - keys), *sorted(program.edges)]
    ranks = {name: np.full(np.shape(gate), -1) for name, gate in gates.items()}
    for number, unit in enumerate(units):
        if unit in program.edges:
            (layer, source, i), (_, target, j) = unit
            ranks[sites.edge_key(source, target)][layer, i, j] = number
        else:
            layer, site, i = unit
            for name in ("q", "k") if site == "q" else (site,):
                ranks[name][layer, i] = number
    turns = np.arange(len(units))
    closed = np.concatenate([[[0, 0]], np.stack([turns, turns + 1], axis=1)])
    unchanged, *losses = program.judge("test").variants(gates, ranks, closed).mean(axis=1)
    return units, unchanged, losses


def check_that_all_is_needed(program):
    """Each true node and edge alone, in the model and in the circuit, and nothing else."""
    config = program.model.config
    truth = program.truth.gates(config)
    shapes = {**sites.node_shapes(config, sites.LAYER_SITES), **sites.edge_shapes(config)}
    full = {name: np.ones(shape, np.float32) for name, shape in shapes.items()}
    for gates in (truth, full):
        units, unchanged, losses = closed_in_turn(program, gates)
        assert unchanged < TARGET / 2
        assert len(units) >= len(program.edges) + 2
        assert {unit: loss for unit, loss in zip(units, losses) if loss <= TARGET} == {}


def test_every_true_node_and_edge_is_needed_and_nothing_else(program):
    check_that_all_is_needed(program)


@pytest.mark.parametrize("name", ["induction", "distractor"])
def test_they_are_needed_amid_extras_too(name):
    check_that_all_is_needed(with_extras(make_program(name), seed=0))


def test_extras_are_many_and_active_and_change_no_answer(program):
    grown = with_extras(program, seed=0)
    assert grown.nodes == program.nodes and grown.edges == program.edges
    small, large = (sum(np.count_nonzero(x) for x in _kernels(one)) for one in (program, grown))
    assert large > 20 * small
    prompts, logits, captured = run_all(grown)
    best, config = np.asarray(logits.argmax(axis=-1)), program.model.config
    answers = grown.model.tokenizer.decode_batch(best[:, None].tolist())
    assert np.mean([answer == ORACLES[program.name](p) for answer, p in zip(answers, prompts)]) == 1
    for site, start in (("attn_out", config.d_model), ("mlp_neuron", config.d_mlp)):
        assert captured[site][..., start:].std(axis=(1, 2)).max() > 0.1
    again, other = (with_extras(program, seed).model.fingerprint for seed in (0, 1))
    assert again == grown.model.fingerprint != other


def _kernels(program):
    layers = program.model.params["layers"]
    return [np.asarray(layers[sub][matrix]["kernel"]) for _, _, sub, matrix in sites.EDGE_MATRICES]


def test_unknown_programs_and_extras_that_change_the_answers_are_named():
    with pytest.raises(InputError, match=r"program: 'inductoin' is unknown; did you mean 'induction'\?"):
        make_program("inductoin")
    plan = PROGRAMS["copy"].blueprint()
    with pytest.raises(InputError, match="channels: 12 is not valid; valid: at most 11"):
        dataclasses.replace(plan, channels=tuple("abcdefghijkl"))
    wire = plan.circuit[0]
    for wrong, said in (
        ({"circuit": (wire._replace(source="ask"),)}, "channel: 'ask' is unknown; did you mean 'asks'"),
        ({"circuit": (wire._replace(to="attn_in"),)}, "wire.to: 'attn_in' is unknown; .*valid: attn_out"),
        ({"embedding": {"z": {"asks": 1}}}, "symbol: 'z' is unknown"),
    ):
        with pytest.raises(InputError, match=said):
            params_of(dataclasses.replace(plan, **wrong))
    with pytest.raises(InputError, match=r"faint: 3 changes the answers of 'copy' \(.* nats\); valid: less"):
        with_extras(make_program("copy"), seed=0, faint=3.0)
