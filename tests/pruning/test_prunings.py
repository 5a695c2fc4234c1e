"""All prunings of a search: the circuit of each is the one that its journal counts."""

import dataclasses
import json
import shutil

import numpy as np
import pytest

from sparse_jax.circuits.edges import count_edges
from sparse_jax.circuits.graph import load_circuit
from sparse_jax.data.corpus import Corpus, SourceTokens
from sparse_jax.inputs import InputError
from sparse_jax.pruning.prune import prune_tasks
from sparse_jax.pruning.prunings import prunings
from sparse_jax.pruning.recipe import Recipe, SearchConfig
from sparse_jax.pruning.store import search_of
from sparse_jax.pruning.trials import Outcome, Trials
from sparse_jax.tasks.task_data import task_data
from tests import planted
from tests.planted import CONFIG, Planted, planted_model

PRUNE = dataclasses.replace(planted.PRUNE, mean_windows=8, validation_pairs=8, test_pairs=8)


@pytest.fixture(scope="module")
def model():
    return planted_model()


@pytest.fixture(scope="module", params=[False, True], ids=["apart", "tied"])
def kept(model, request, tmp_path_factory):
    """The folder of a search with its circuit, q and k apart or tied."""
    folder = tmp_path_factory.mktemp("kept")
    prune = dataclasses.replace(PRUNE, tied_qk=request.param)
    tokens = np.random.default_rng(0).integers(0, 8, 400).astype(np.uint16)
    corpus = Corpus(model.tokenizer, {"a": SourceTokens(tokens, tokens)}, {"a": 1.0}, "", {})
    data = task_data(Planted("planted", "tests", "which digit is last"), model.tokenizer, 8, prune.counts)
    prune_tasks(model, corpus, [data], Recipe(prune, SearchConfig(lanes=3, rounds=1)), folder)
    return folder


def test_each_has_the_best_nodes_of_its_own_logits(model, kept):
    circuit = load_circuit(kept / "planted.json")
    found, trials = prunings(model, circuit), Trials(search_of(circuit))
    assert [one.trial for one in found.found] == trials.trials and len(found.found) == 3
    for one in found.found:
        assert (len(one.nodes), len(one.edges)) == (one.outcome.nodes, one.outcome.edges)
        logits = trials.logits(one.trial)
        logits.setdefault("k", logits["q"])
        inside = {node.name: float(logits[node.site][node.place]) for node in one.nodes}
        shapes = [(site, place) for site, tau in logits.items() for place in np.ndindex(tau.shape)]
        outside = [
            float(logits[site][place])
            for site, place in shapes
            if not any(node.site == site and node.place == place for node in one.nodes)
        ]
        if "k" in trials.logits(one.trial):  # ranked one by one
            assert min(inside.values()) >= max(outside)
        assert all(node.score == pytest.approx(inside[node.name]) for node in one.nodes)
        opened = dataclasses.replace(circuit, nodes=one.nodes, edges=one.edges)
        assert count_edges(model.params, opened.gates(CONFIG)) == one.outcome.edges
    means = {node.name: node.mean for node in circuit.nodes}
    shared = [node for one in found.found for node in one.nodes if node.name in means]
    assert shared and all(node.mean == pytest.approx(means[node.name]) for node in shared)
    saved = json.loads(json.dumps(found.to_json(), allow_nan=False))
    assert saved["task"] == "planted" and [one["number"] for one in saved["prunings"]] == [0, 1, 2]
    assert f"{found.found[0].outcome.edges} edges at {found.found[0].outcome.loss:.3f}" in repr(found)


def test_a_search_is_found_by_what_it_is_of_and_not_by_its_name(kept, tmp_path):
    circuit = load_circuit(kept / "planted.json")
    folder = search_of(circuit)
    assert folder.parent == kept / "search" and folder.name.endswith(circuit.provenance["searched"])
    # a file of another name, and a search for another circuit of the same task
    (kept / "renamed.json").write_text((kept / "planted.json").read_text())
    assert search_of(load_circuit(kept / "renamed.json")) == folder
    other = dataclasses.replace(circuit, provenance={**circuit.provenance, "searched": "0" * 16})
    assert search_of(other) is None
    assert search_of(dataclasses.replace(circuit, folder=str(tmp_path))) is None
    assert search_of(dataclasses.replace(circuit, folder="")) is None


def test_what_is_no_search_of_the_circuit_is_named(model, kept, tmp_path):
    circuit = load_circuit(kept / "planted.json")
    folder = search_of(circuit)
    with pytest.raises(InputError, match=r"^folder: the circuit has no search beside its file; valid: "):
        prunings(model, dataclasses.replace(circuit, provenance={**circuit.provenance, "searched": ""}))
    with pytest.raises(InputError, match=r"^folder: .* valid: a folder of a search, with its trials\.jsonl"):
        prunings(model, circuit, tmp_path)
    with pytest.raises(InputError, match=r"^folder: .* valid: the search that found the circuit"):
        other = dataclasses.replace(circuit, provenance={**circuit.provenance, "optimized_loss": 0.5})
        prunings(model, other, folder)
    target = circuit.losses["target"]
    at_another = dataclasses.replace(circuit, losses={**circuit.losses, "target": target + 0.1})
    with pytest.raises(InputError, match=rf"^folder: .* at \[{target}\]' .*'s target {target + 0.1:g}"):
        prunings(model, at_another, folder)
    shutil.copytree(folder, tmp_path / "copy")  # by what is in it, whatever it is called
    assert prunings(model, circuit, tmp_path / "copy") == prunings(model, circuit)
    trials = Trials(folder).trials
    lines = json.loads(json.dumps([dataclasses.asdict(trial) for trial in trials]))
    lines[1]["outcomes"][0]["edges"] += 1
    copy = tmp_path / folder.name
    (copy / "logits").mkdir(parents=True)
    for path in (folder / "logits").iterdir():
        (copy / "logits" / path.name).write_bytes(path.read_bytes())
    (copy / "trials.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    with pytest.raises(InputError, match=r"^folder: pruning 1 of .* valid: a search in this model"):
        prunings(model, circuit, copy)
    # of one that broke down, only the settings are known
    lines[1]["outcomes"][0] = dataclasses.asdict(Outcome(PRUNE.target_loss, 0, 0, None))
    (copy / "trials.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert prunings(model, circuit, copy).found[1].nodes == ()
