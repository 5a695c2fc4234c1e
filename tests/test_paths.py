"""Every public name that takes a path: a home is expanded, another scheme refused before anything is done."""

import json
import sys

import pytest

import sparse_jax as sj
from sparse_jax import buckets
from sparse_jax.circuits.graph import Circuit
from sparse_jax.data.config import data_config
from sparse_jax.data.corpus import prepare
from sparse_jax.pruning.store import Store

CIRCUIT = Circuit((), (), ("q",), {}, {}, {}, {"task": "for_while"})
PAIR = {"prompt": "a", "counterfactual": "b", "answer": "c", "wrong": "d"}


def source(kind, *paths, directory="."):
    return data_config({"sources": {"mine": {"kind": kind, "paths": paths}}, "directory": str(directory)})


TAKERS = {
    "load": sj.load,
    "save": lambda path: sj.save(None, path),
    "load_circuit": sj.load_circuit,
    "Circuit.save": CIRCUIT.save,
    "report": lambda path: sj.report(CIRCUIT, path),
    "train": lambda path: sj.train(sj.presets.tiny(), path),
    "directory of prune": Store,
    "task of a file": lambda path: sj.task(f"{path}.jsonl"),
    "task of a function": lambda path: sj.task(f"{path}.py:f"),
    "text": lambda path: prepare(source("text", path), 300),
    "python_source": lambda path: prepare(source("python_source", path), 300),
    "data.directory": lambda path: prepare(source("python_source", directory=path), 300),
}


@pytest.mark.parametrize("name", TAKERS)
def test_another_scheme_is_refused_and_nothing_is_made(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(sj.InputError, match=r"'s3://b/n.*': s3:// is not supported; valid: a path on this"):
        TAKERS[name]("s3://b/n")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", TAKERS)
def test_a_bucket_needs_gcsfs_and_nothing_is_made(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "gcsfs", None)
    buckets._client.cache_clear()
    buckets._ask.cache_clear()
    with pytest.raises(sj.InputError, match=r"gs:// needs gcsfs; valid: pip install 'sparse_jax\[gcs\]'"):
        TAKERS[name]("gs://bucket/n")
    assert not list(tmp_path.iterdir())


def test_a_home_is_expanded_where_something_is_read(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    CIRCUIT.save("~/circuit.json")
    assert sj.load_circuit("~/circuit.json") == CIRCUIT
    assert Store("~").directory == tmp_path
    with pytest.raises(sj.InputError, match=f"model: {tmp_path}: no model was found there"):
        sj.load("~")
    (tmp_path / "mine.jsonl").write_text(json.dumps(PAIR))
    assert sj.task("~/mine.jsonl").name == "mine"
    (tmp_path / "mine.py").write_text("def f(rng):\n    pass\n")
    assert sj.task("~/mine.py:f").name == "f"
