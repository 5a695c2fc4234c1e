"""A shuffled corpus: the same documents, each with its tokens in another order."""

import dataclasses
import hashlib
import json

import numpy as np
import pytest

from sparse_jax.data import shuffled as shuffling
from sparse_jax.data.config import data_config
from sparse_jax.data.corpus import prepare
from sparse_jax.data.identity import _code, corpus_key
from sparse_jax.data.loader import validation_windows
from sparse_jax.inputs import InputError
from sparse_jax.models.formats import load_model, save_model
from sparse_jax.models.means import check_corpus, training_corpus
from sparse_jax.pruning.config import PruneConfig
from sparse_jax.pruning.prune import prune_tasks
from sparse_jax.pruning.recipe import Recipe
from sparse_jax.tasks.own import pairs_task
from sparse_jax.tasks.task_data import task_data
from sparse_jax.training.config import run_config
from sparse_jax.training.loop import train
from sparse_jax.training.resume import CONFIG_NAME


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    home = tmp_path_factory.mktemp("shuffled")
    texts = [f"{'word ' * (i % 5)}number {i}, of {i * i}" for i in range(60)] + ["x"]
    (home / "lines.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    return home


def config(home, **changes):
    sources = {
        "simple": {"kind": "simple_python", "examples": 50},
        "mine": {"kind": "text", "paths": [str(home / "lines.jsonl")]},
    }
    return data_config({"sources": sources, "directory": str(home / "data"), **changes})


@pytest.fixture(scope="module")
def both(home):
    return prepare(config(home), 300), prepare(config(home, shuffled=True), 300)


def documents(tokens):
    tokens = np.asarray(tokens)
    return np.split(tokens, np.flatnonzero(tokens == 0) + 1)[:-1]


def test_documents_have_the_same_tokens_in_another_order(both):
    plain, other = both
    assert not plain.shuffled and other.shuffled
    assert other.tokenizer.to_str() == plain.tokenizer.to_str()
    assert (other.weights, other.reports) == (plain.weights, plain.reports)
    moved = 0
    for name, source in plain.sources.items():
        for split in ("train", "validation"):
            one, two = getattr(source, split), getattr(other.sources[name], split)
            assert one.dtype == two.dtype
            np.testing.assert_array_equal(one == 0, two == 0)  # ends of texts
            for before, after in zip(documents(one), documents(two), strict=True):
                np.testing.assert_array_equal(np.sort(before), np.sort(after))
                # a text as short as "x" has one order only
                moved += not np.array_equal(before, after)
                assert len(before) < 6 or not np.array_equal(before, after)
    assert moved > 100
    windows = [validation_windows(one.sources["simple"].validation, 2, 16) for one in both]
    assert not np.array_equal(*windows)


def test_the_order_depends_on_the_document_alone(home, both, monkeypatch):
    """Read a few tokens at a time, documents fall into several pieces; there, others stand before them."""
    monkeypatch.setattr(shuffling, "_READ_AT_ONCE", 7)
    again = prepare(config(home, shuffled=True, directory=str(home / "again")), 300)
    assert again.fingerprint == both[1].fingerprint
    for name, source in both[1].sources.items():
        np.testing.assert_array_equal(again.sources[name].train, source.train)
        np.testing.assert_array_equal(again.sources[name].validation, source.validation)


def test_its_identity_is_another_and_that_of_the_plain_corpus_what_it_was(home, both):
    plain, other = both
    assert plain.fingerprint != other.fingerprint
    keys = {"mine": "m", "simple": "s"}
    one, two = (corpus_key(config(home, shuffled=shuffled), 300, keys) for shuffled in (False, True))
    assert one != two
    weights = {"mine": 0.5, "simple": 0.5}
    parts = [weights, 4_000_000, 300, keys, _code(("tokenizer.py", "encoding.py"))]
    assert one == hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


@pytest.mark.slow
def test_a_control_is_trained_written_and_pruned(mapping, tmp_path, capsys):
    mapping["data"]["shuffled"] = True
    trained = train(run_config(mapping), tmp_path / "run")
    save_model(trained, tmp_path / "copy")
    control = load_model(tmp_path / "copy")
    assert control.is_control and training_corpus(control).shuffled
    plain = prepare(dataclasses.replace(data_config(mapping["data"]), shuffled=False), 300)
    with pytest.raises(InputError, match="data.shuffled: False is not valid; valid: True, as in training"):
        check_corpus(control, plain)
    pairs = [
        {"prompt": f"{a}{b}", "counterfactual": f"{b}{a}{a}", "answer": "z", "wrong": "q"}
        for a in "ABCDEFGH"
        for b in "ijkl"
    ]
    prune = PruneConfig(
        steps=4, pairs_per_step=2, train_pairs=4, validation_pairs=2, test_pairs=2, mean_windows=4
    )
    data = task_data(pairs_task(pairs), control.tokenizer, 16, prune.counts)
    (found,) = prune_tasks(control, None, [data], Recipe(prune), tmp_path / "circuits")
    assert found.provenance["config"]["data"]["shuffled"] is True
    assert found.provenance["control"] == "trained on shuffled text"
    assert "a control; the full model is at" in capsys.readouterr().err


def test_a_run_on_plain_text_is_not_resumed_on_shuffled_text(mapping, tmp_path):
    (tmp_path / CONFIG_NAME).write_text(run_config(mapping).to_json())
    mapping["data"]["shuffled"] = True
    with pytest.raises(InputError, match="data.shuffled False there, True here"):
        train(run_config(mapping), tmp_path)
    mapping["data"]["shuffled"] = "yes"
    with pytest.raises(InputError, match="data.shuffled: 'yes' is a str; valid: bool"):
        run_config(mapping)


def test_in_a_bucket_it_is_found_again(home, both, bucket, storage, monkeypatch):
    made = prepare(config(home, shuffled=True, directory=f"{bucket}/data"), 300)
    assert made.fingerprint == both[1].fingerprint and made.shuffled
    monkeypatch.delattr("sparse_jax.data.corpus._filler")
    again = prepare(config(home, shuffled=True, directory=f"{bucket}/data"), 300)
    assert again.fingerprint == made.fingerprint
