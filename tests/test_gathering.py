"""All that a page shows of a circuit, in one call: of this circuit, and on a page at once."""

import dataclasses

import numpy as np
import pytest

import sparse_jax as sj
from sparse_jax.circuits.graph import load_circuit
from sparse_jax.data.corpus import Corpus, SourceTokens
from sparse_jax.models import means as text_means
from tests.planted import Planted, planted_model

# equally many pairs in every split, so that one program serves all of them
SHORT = {"steps": 20, "pairs_per_step": 4, "train_pairs": 8, "validation_pairs": 8, "test_pairs": 8}
TASK = Planted("planted", "tests", "which digit is last")


@dataclasses.dataclass
class Card:
    """In place of a scorecard, which takes long and has its own tests."""

    of: str

    def to_json(self):
        return {"task": "planted", "of": self.of, "verdict": ["Enough."], "pairs": 8, "figures": []}


def card_of(model, circuit, task):
    return Card(circuit.fingerprint)


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """A model, the circuit that a search of two prunings found in it, and all that a page shows."""
    model, folder = planted_model(), tmp_path_factory.mktemp("kept")
    tokens = np.random.default_rng(0).integers(0, 8, 2000).astype(np.uint16)
    corpus = Corpus(model.tokenizer, {"s": SourceTokens(tokens, tokens)}, {"s": 1.0}, "", {})
    with pytest.MonkeyPatch.context() as patch:  # its text would have to be made
        patch.setattr(text_means, "prepare", lambda *_: corpus)
        patch.setattr("sparse_jax.gathering.measure_circuit", card_of)
        patch.setattr("sparse_jax.circuits.narrowing.PARTS", (1,))  # one width: there is less to compile
        search = {"target_loss": 0.5, "k_coef": 3e-3, "learning_rate": 0.05, "lanes": 2, "search": 1}
        sj.prune(model, TASK, directory=folder, **search, **SHORT)
        circuit = load_circuit(folder / "planted.json")
        yield model, circuit, sj.findings(model, circuit, TASK)


def test_everything_is_of_the_circuit_and_goes_on_its_page(found):
    _, circuit, shown = found
    names = {node.name for node in circuit.nodes}
    assert {one.node.name for one in shown["meanings"].nodes} == names
    assert set(shown["traces"].in_circuit) == {node.name for node in shown["contributions"].nodes} == names
    assert len(shown["traces"].prompts) == 6
    assert len(shown["prunings"].found) == 2  # of the search beside its file
    assert "def logits(tokens):" in shown["code"] and shown["scorecard"].of == circuit.fingerprint
    text = sj.view(circuit, **shown).text
    assert '"prunings":[{"number":0,' in text and "def logits(tokens):" in text and "Enough." in text


def test_a_circuit_without_a_node_or_a_search_has_what_there_is(found, monkeypatch):
    model, circuit, shown = found
    alone = dataclasses.replace(circuit, folder="")
    monkeypatch.setattr("sparse_jax.gathering.trace", lambda *_, **__: shown["traces"])
    monkeypatch.setattr(type(circuit), "code", lambda *_: shown["code"])
    monkeypatch.setattr("sparse_jax.gathering.contributions", lambda *_: shown["contributions"])
    again = sj.findings(model, alone, TASK, meanings=shown["meanings"])
    assert again == {**shown, "prunings": None}
    empty = sj.findings(
        model, dataclasses.replace(alone, nodes=(), edges=()), TASK, meanings=shown["meanings"]
    )
    assert empty["scorecard"] is None and empty["contributions"] is None and empty["code"] == shown["code"]
