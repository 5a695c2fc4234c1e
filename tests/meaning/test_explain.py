"""What nodes of programs mean that were written by hand, so that it is known."""

import dataclasses
import json

import numpy as np
import pytest

import sparse_jax as sj
from sparse_jax.circuits.graph import Node
from sparse_jax.faithfulness.known_programs import make_program
from sparse_jax.inputs import InputError
from sparse_jax.meaning.explain import GOOD, auc, best_predicates, explained
from sparse_jax.models.means import save_means


@pytest.fixture(scope="module")
def meanings(quotes):
    program, circuit = quotes
    pairs = program.pairs("train")
    return sj.explain(program.model, circuit, program.task, text=pairs.flat().tokens)


def test_nodes_are_what_they_were_made_to_be(meanings):
    double, single = meanings["0.mlp_in.1"], meanings["0.mlp_in.2"]
    assert double.said.predicate == "token is '\"'" and single.said.predicate == 'token is "\'"'
    assert double.said.auc > 0.99 and double.said.explained > 0.9
    assert double.excited_by[0][0] == '"' and single.excited_by[0][0] == "'"
    # neurons are excited through their one edge
    assert meanings["0.mlp_neuron.0"].excited_by[0][0] == '"'


def test_what_writes_to_the_logits_moves_them_and_tells_the_answers_apart(meanings):
    out = meanings["1.attn_out.5"]
    assert {text for text, value in out.moves if value > 0} == {'"'}
    assert {text for text, value in out.moves if value < 0} == {"'"}
    assert set(out.answers) == {'"', "'"}
    assert out.answers['"'] > 0.5 and out.answers["'"] < -0.5
    assert out.difference == pytest.approx(out.answers['"'] - out.answers["'"])
    assert meanings["0.mlp_in.1"].moves == ()


def test_contexts_are_in_order_of_activation(meanings):
    contexts = meanings["0.mlp_neuron.0"].contexts
    assert [context.value for context in contexts] == sorted((c.value for c in contexts), reverse=True)
    assert contexts[0].token == '"' and contexts[0].quantile == 1


def test_they_are_shown_and_saved(meanings, tmp_path):
    assert "0.mlp_in.1: token is '\"' (AUC 1.00)" in str(meanings)
    page = meanings._repr_html_()
    assert "token is &#x27;&quot;&#x27;" in page and "<td>0.mlp_in.1</td>" in page
    meanings.save(tmp_path / "meanings.json")
    saved = json.loads((tmp_path / "meanings.json").read_text())
    assert saved["nodes"][0]["node"] == meanings.nodes[0].node.name
    assert saved["nodes"][0]["said"].keys() == {"predicate", "auc", "explained"}
    assert len(saved["nodes"][0]["contexts"]) == 7 and saved["nodes"][0]["contexts"][0]["quantile"] == 1
    with pytest.raises(InputError, match=r"^node: '0.q.99' is not in the circuit; valid: 0.mlp_in.1"):
        meanings["0.q.99"]


def test_a_predicate_is_judged_on_text_that_it_was_not_chosen_on():
    rng = np.random.default_rng(0)
    texts = [[f"w{i}" for i in rng.integers(0, 6, 50)] for _ in range(20)]
    is_w3 = np.array([token == "w3" for text in texts for token in text])
    first = np.arange(len(is_w3)) < len(is_w3) // 2
    noise = rng.random(len(is_w3))
    acts = np.stack([1.0 * is_w3, np.where(first, is_w3, noise), noise], axis=1)
    found = best_predicates(acts + 1e-3 * rng.random(acts.shape), texts)
    assert found[0].predicate == "token is 'w3'" and found[0].auc == 1.0
    # holds in the first half alone; and noise
    assert found[1] is None and found[2] is None


def test_auc_and_explained_variance_against_their_definitions():
    rng = np.random.default_rng(1)
    true, x = rng.random((3, 40)) < 0.3, np.round(rng.normal(size=(40, 2)), 1)
    for p in range(3):
        for m in range(2):
            above, below = x[true[p], m][:, None], x[~true[p], m][None]
            expected = ((above > below) + 0.5 * (above == below)).mean()
            assert auc(true, x)[p, m] == pytest.approx(expected)
            fitted = np.where(true[p], x[true[p], m].mean(), x[~true[p], m].mean())
            expected = 1 - ((x[:, m] - fitted) ** 2).mean() / x[:, m].var()
            assert explained(true, x)[p, m] == pytest.approx(expected)
    assert auc(np.zeros((1, 40), bool), x)[0, 0] == 0.5 and explained(np.ones((1, 40), bool), x)[0, 0] == 0
    assert 0.5 < GOOD < 1


def test_a_right_hypothesis_costs_nothing_and_a_wrong_one_what_the_node_does(quotes):
    program, circuit = quotes
    right = sj.test_hypothesis(program.model, circuit, "0.mlp_in.1", "token is '\"'", program.task, pairs=64)
    assert right.hypothesis == pytest.approx(right.circuit, abs=1e-3) and right.auc > 0.99
    assert right.ablated > right.circuit + 0.05 and right.explained > 0.99
    assert right.high > 0.9 and right.low == pytest.approx(0, abs=0.05)
    wrong = sj.test_hypothesis(program.model, circuit, "0.mlp_in.1", "is a word", program.task, pairs=64)
    assert wrong.hypothesis > right.circuit + 0.05 and wrong.explained < 0.7
    assert str(right).startswith("0.mlp_in.1 as ") and f"{right.ablated:.3f}" in str(right)


def test_a_node_is_ablated_to_what_the_circuit_carries_whatever_its_file_says(quotes):
    program, circuit = quotes
    released = dataclasses.replace(
        circuit, nodes=tuple(dataclasses.replace(node, mean=0.0) for node in circuit.nodes)
    )
    own, same = (
        sj.test_hypothesis(program.model, one, "0.mlp_in.1", "is a word", program.task, pairs=16)
        for one in (circuit, released)
    )
    assert same == own


def test_a_node_of_the_last_stream_can_be_tested(quotes, tmp_path):
    program, circuit = quotes
    last = Node(2, "final_resid", 5, mean=0.0)
    means = {site: np.asarray(mean) for site, mean in program.values.items()}
    save_means(means, tmp_path / "means.npz", program.model.fingerprint)
    wider = dataclasses.replace(
        circuit, nodes=(*circuit.nodes, last), sites=(*circuit.sites, "final_resid"), folder=str(tmp_path)
    )
    says = "inside a '...' string"
    found = sj.test_hypothesis(program.model, wider, last.name, says, program.task, pairs=16)
    assert found.circuit < 0.1 and found.ablated > 0.6


def test_wrong_input_is_named(quotes):
    program, circuit = quotes
    with pytest.raises(InputError, match=r"^node: '0.mlp_in.3' is not in the circuit; .*0.mlp_in.1"):
        sj.test_hypothesis(program.model, circuit, "0.mlp_in.3", "is a word", program.task)
    with pytest.raises(InputError, match=r"^predicate: 'is word' is unknown"):
        sj.test_hypothesis(program.model, circuit, "0.mlp_in.1", "is word", program.task)
    with pytest.raises(InputError, match=r"^node: Node.* is not valid; valid: a name such as"):
        sj.test_hypothesis(program.model, circuit, circuit.nodes[0], "is a word", program.task)
    with pytest.raises(InputError, match=r"^predicate: None is not valid; valid: a name such as"):
        sj.test_hypothesis(program.model, circuit, "0.mlp_in.1", None, program.task)
    for text, said in (
        (np.zeros((1, 8), np.int32), r"^text: shape: \(1, 8\) .*at least 2 windows"),
        (np.zeros(8, np.int32), r"^text: shape: \(8,\) is not valid; valid: token ids \[W, T\]"),
        ([[1, 2], [3]], r"^text: .* valid: token ids"),
        (np.zeros((2, 8)), "^text: 'float64' is not valid; valid: token ids"),
        (np.full((2, 8), 99), "^text: .*99"),
        (None, r"^data: the training text of .* is unknown; valid: .*, or text=$"),
    ):
        with pytest.raises(InputError, match=said):
            sj.explain(program.model, circuit, program.task, text=text)
    for call in (sj.explain, sj.binarize, sj.findings):
        with pytest.raises(InputError, match="^circuit: 'a path' is not valid; valid: what sj.load_circuit"):
            call(program.model, "a path", program.task)
    with pytest.raises(InputError, match="^circuit: 'a path' is not valid; valid: what sj.load_circuit"):
        sj.test_hypothesis(program.model, "a path", "0.mlp_in.1", "is a word", program.task)
    with pytest.raises(InputError, match="^seed: -1 is not valid; valid: 0 to"):
        sj.binarize(program.model, circuit, program.task, seed=-1)
    named = dataclasses.replace(circuit, provenance={**circuit.provenance, "task": "mine"})
    with pytest.raises(InputError, match=r"^task: .*; valid: 'mine', which the circuit was found for"):
        sj.explain(program.model, named, program.task, text=np.zeros((2, 8), np.int32))
    other = make_program("copy")
    with pytest.raises(InputError, match="^circuit: it belongs to model"):
        sj.explain(other.model, circuit, program.task, text=np.zeros((2, 8), np.int32))


def test_what_excites_a_node_does_not_depend_on_what_a_file_says_of_its_edges(quotes, meanings):
    """In released lists edges carry effects, not weights."""
    program, circuit = quotes
    edges = tuple(dataclasses.replace(edge, weight=-7.0) for edge in circuit.edges)
    listed = dataclasses.replace(circuit, edges=edges)
    text = program.pairs("train").flat().tokens
    found = sj.explain(program.model, listed, program.task, text=text, pairs=8)
    for one, other in zip(meanings.nodes, found.nodes):
        assert (one.excited_by, one.moves) == (other.excited_by, other.moves)


def test_nodes_of_a_model_that_computes_in_bfloat16_are_explained(quotes, tmp_path):
    program, circuit = quotes
    config = dataclasses.replace(program.model.config, compute_dtype="bfloat16")
    model = dataclasses.replace(program.model, config=config)
    means = {site: np.asarray(mean) for site, mean in program.values.items()}
    save_means(means, tmp_path / "means.npz", model.fingerprint)
    about = {**circuit.provenance, "weights": model.fingerprint}
    circuit = dataclasses.replace(circuit, provenance=about, folder=str(tmp_path))
    found = sj.explain(model, circuit, program.task, text=program.pairs("train").flat().tokens, pairs=16)
    assert found["0.mlp_in.1"].said.predicate == "token is '\"'"
    right = sj.test_hypothesis(model, circuit, "0.mlp_in.1", "token is '\"'", program.task, pairs=16)
    assert right.auc > 0.99 and right.explained > 0.9


def test_meanings_of_a_circuit_that_names_no_task_are_shown(quotes):
    program, circuit = quotes
    about = {name: fact for name, fact in circuit.provenance.items() if name != "task"}
    unnamed = dataclasses.replace(circuit, provenance=about)
    text = program.pairs("train").flat().tokens
    found = sj.explain(program.model, unnamed, program.task, text=text, pairs=8)
    assert found.to_json()["task"] == program.task.name
    assert program.task.name in sj.view(unnamed, meanings=found).text
