"""Circuits as code: programs whose circuits are known come back as they were written."""

import dataclasses
import functools

import jax
import numpy as np
import pytest
from tokenizers import Tokenizer, models

import sparse_jax as sj
from sparse_jax.circuits.edges import find_edges, kept_nodes
from sparse_jax.circuits.folding import fold
from sparse_jax.circuits.graph import Circuit
from sparse_jax.circuits.listing import Table, fewer_entries, listing_of
from sparse_jax.circuits.source_check import Check, pairs_of_test
from sparse_jax.circuits.source_code import MORE_LOSS, code_of
from sparse_jax.circuits.source_text import WIDTH, load, token_texts, wrapped, written
from sparse_jax.faithfulness import known_programs
from sparse_jax.faithfulness.known_programs import PROGRAMS
from sparse_jax.faithfulness.planted import SYMBOLS
from sparse_jax.inputs import InputError
from sparse_jax.model import sites
from sparse_jax.model.forward import initialize
from sparse_jax.models.model import Model
from sparse_jax.tasks.encode import EncodedPairs
from tests.planted import CONFIG

FOUND = "experiments/results/faithfulness/circuits/sparse/mean"


make_program = functools.cache(known_programs.make_program)


@functools.cache
def code(name: str) -> str:
    program = make_program(name)
    pairs = program.pairs("test")
    outputs = sorted(set(pairs.candidates.reshape(-1).tolist()))
    small = fold(program.model, program.truth, program.values, outputs)
    return code_of(program.model, program.truth, program.values, small, pairs)


@pytest.mark.parametrize("name", PROGRAMS)
def test_the_code_answers_prompts_that_it_was_not_checked_on(name):
    """The answer is the one that the prompt was made with, not the model's."""
    logits, program = load(code(name)), make_program(name)
    wrong = []
    for pair in program.task.pairs("validation", 64, 0):
        for prompt, right, other in (
            (pair.prompt, pair.answer, pair.wrong),
            (pair.counterfactual, pair.wrong, pair.answer),
        ):
            found = logits(list(prompt))
            if not found[right] > found[other]:
                wrong.append(prompt)
    assert wrong == []


def test_a_program_comes_back_as_it_was_written():
    text = code("copy")
    for line in (
        "    attn_in_0_3 = read({'a': 1, 'b': -1})",
        "    attn_in_0_2 = read({'a': 1, 'b': 1})",
        "    # high at '?'; read by q_0_0",
        "    k_0_0 = 1 * attn_in_0_2",
        "    attn_out_0_4 = 1 * (head_0_0 @ v_0_0)",
    ):
        assert line in text.splitlines()
    assert text.startswith('"""copy in copy (') and "7 nodes, 4 edges." in text
    assert "On 192 test prompts it gives 192 of the circuit's answers" in text.replace("\n", " ")


def test_what_is_left_out_costs_no_answer_and_little_loss():
    program = make_program("induction")
    pairs = program.pairs("test")
    small = fold(program.model, program.truth, program.values, range(len(SYMBOLS)))
    check = Check(small, pairs, token_texts(program.model.tokenizer, 32))
    verdict = check.verdict(code("induction"))
    assert verdict.answers == len(check.prompts) and verdict.loss < check.loss + MORE_LOSS
    # as many as asked for, or nothing
    broken = f"def logits(tokens):\n    return dict.fromkeys({SYMBOLS!r}, 0)\n"
    assert check.verdict(broken).loss == pytest.approx(np.log(2))
    assert check.verdict(broken, loss=0.5) is None
    assert check.verdict(broken, answers=len(check.prompts)) is None


@pytest.mark.slow
def test_what_the_published_circuits_need_is_numpy_alone():
    model = sj.load("experiments/results/small/sparse")
    circuit = sj.load_circuit(f"{FOUND}/else_elif.json")
    # a few pairs alone, which are not those that it was found on
    about = {name: fact for name, fact in circuit.provenance.items() if name != "pairs"}
    circuit = dataclasses.replace(circuit, provenance={**about, "pruning": {"test_pairs": 24}})
    text = circuit.code(model)
    imports = [line for line in text.splitlines() if "import" in line]
    assert imports == ["from math import erf", "import numpy as np"]
    logits = load(text)
    pairs = pairs_of_test(model, circuit, None)
    small = circuit.compact(model, sorted(set(pairs.candidates.reshape(-1).tolist())))
    texts = token_texts(model.tokenizer, model.config.vocab_size)
    tokens, last = pairs.tokens.reshape(-1, pairs.tokens.shape[-1]), pairs.last.reshape(-1)
    expected = np.asarray(small.forward(tokens, last))
    for row, end, two, of_circuit in zip(tokens, last, pairs.candidates.reshape(-1, 2), expected):
        found = logits([texts[token] for token in row[: end + 1]])
        first, second = (of_circuit[small.outputs.index(token)] for token in two)
        assert (found[texts[two[0]]] > found[texts[two[1]]]) == (first > second)
    assert max(map(len, text.splitlines())) <= WIDTH


@pytest.mark.slow
def test_a_quote_circuit_fits_on_a_screen_and_keeps_every_answer():
    model = sj.load("experiments/results/small/sparse")
    text = sj.load_circuit(f"{FOUND}/single_double_quote.json").code(model)
    assert len(text.splitlines()) < 80
    assert "On 512 test prompts it gives 512 of the circuit's answers" in text.replace("\n", " ")


def test_texts_of_tokens_are_all_different_and_cannot_break_out():
    words = ["a", "b", "\N{REPLACEMENT CHARACTER}", "'\"\\\n", "{x}", '"""']
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="a"))
    assert token_texts(tokenizer, 6) == ["a", "b", "<2>", "'\"\\\n", "{x}", '"""']


@pytest.mark.parametrize("long", (False, True))
def test_wrapped_lines_mean_the_same(long):
    table = {f'it\'s "{i}", + - {i}\n': i for i in range(60 if long else 2)}
    text = "    x = (read({" + ", ".join(f"{k!r}: {v}" for k, v in table.items()) + "}) + 3 - 4)"
    lines = list(wrapped(text, 8))
    assert (len(lines) > 1) == long and max(map(len, lines)) <= WIDTH
    found = {}
    exec("def f(read):\n" + "\n".join(lines) + "\n    return x", found)
    seen = []
    assert found["f"](lambda given: seen.append(given) or 1) == 0 and seen == [table]


def test_entries_are_left_out_by_their_share_of_the_largest():
    table = Table(1.0, {3: -4.0, 5: 2.0, 7: 1.0})
    assert fewer_entries(table, 0.5) == Table(1.0, {3: -4.0})
    assert fewer_entries(table, 0.3).others == {3: -4.0, 5: 2.0}
    assert fewer_entries(Table(1.0, {}), 0.5) == Table(1.0, {})


def test_what_cannot_be_written_is_refused():
    model = sj.load("experiments/results/small/sparse")
    circuit = sj.load_circuit(f"{FOUND}/for_while.json")
    unknown = dataclasses.replace(circuit, provenance={**circuit.provenance, "task": "mine"})
    with pytest.raises(InputError, match=r"^task: None, and the circuit's own is not known here \(.*mine"):
        unknown.code(model)
    with pytest.raises(InputError, match=r"^task: 'with_open' has other pairs .*; valid: 'for_while' with"):
        circuit.code(model, "with_open")
    with pytest.raises(InputError, match="for_whil"):
        circuit.code(model, "for_whil")
    frozen = {"task": "for_while", "pruning": {"test_pairs": 4, "frozen_norms": True}}
    with pytest.raises(InputError, match="^circuit: 'frozen norms'"):
        dataclasses.replace(circuit, provenance=frozen).code(model)
    program = make_program("copy")
    config = dataclasses.replace(program.model.config, residual_activation="relu")
    relu = Model(config, program.model.params, program.model.tokenizer)
    pairs = program.pairs("test")
    with pytest.raises(InputError, match=r"^model.residual_activation: 'relu'"):
        code_of(relu, program.truth, program.values, fold(relu, program.truth, program.values, (1,)), pairs)


@pytest.mark.parametrize("bias", (0.0, 3.0))
def test_the_bias_of_a_norm_is_not_scaled_by_it(bias):
    """Of one layer whose stream has a mean of zero, so that all that is recorded of its norm is exact."""
    rng = np.random.default_rng(1)
    config = dataclasses.replace(CONFIG, norm="layer")
    params = jax.tree.map(
        lambda x: np.asarray(x) + rng.normal(0, 0.4, x.shape).astype(np.float32),
        initialize(config, jax.random.key(1)),
    )
    embed, mlp = rng.normal(size=(8, 8)) * rng.uniform(0.3, 3, (8, 1)), params["layers"]["mlp"]
    params["embed"]["kernel"] = (embed - embed.mean(1, keepdims=True)).astype(np.float32)
    mlp["norm"]["bias"][:] = bias
    mlp["down"]["kernel"] -= mlp["down"]["kernel"].mean(-1, keepdims=True)
    mlp["down"]["bias"][:] = 0
    values = {site: np.zeros(shape, np.float32) for site, shape in sites.node_shapes(config).items()}
    of_mlp = {site: np.full_like(values[site], "mlp" in site) for site in sites.LAYER_SITES}
    nodes = kept_nodes(of_mlp, values, values, 1)
    circuit = Circuit(nodes, find_edges(params, nodes, of_mlp), sites.LAYER_SITES, {}, {}, {}, {})
    tokens = rng.integers(0, 8, (16, 2, 8)).astype(np.int32)
    candidates = np.tile(np.array([[3, 7], [7, 3]], np.int32), (16, 1, 1))
    pairs = EncodedPairs(tokens, np.full((16, 2), 7, np.int32), candidates)
    model = Model(config, params)
    small = fold(model, circuit, values, [3, 7])
    texts = [f"t{token}" for token in range(8)]
    logits = load(written(listing_of(model, circuit, values, small, pairs), 9, texts))
    rows, last, _ = pairs.flat()
    expected = np.asarray(small.forward(rows, last))
    found = [logits([texts[token] for token in row])["t3"] for row in rows]
    np.testing.assert_allclose(found, (expected[:, 0] - expected[:, 1]) / 2, atol=1e-5)
