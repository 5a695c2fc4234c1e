"""Pairs of models: of equal loss as far as that is known, and the same ones when a study goes on."""

import dataclasses
import json
from pathlib import Path

import pytest

from experiments.studies.pair import keep_models, load_pair, loss_of_model, require_equal, validation_loss
from sparse_jax.circuits.graph import load_circuit
from sparse_jax.inputs import InputError
from sparse_jax.models.formats import load_model

RESULTS = Path(__file__).parents[3] / "experiments" / "results"
SMALL = RESULTS / "small"
CIRCUIT = RESULTS / "faithfulness" / "circuits" / "dense" / "mean" / "with_open.json"


def metrics(folder, *losses):
    folder.mkdir(exist_ok=True)
    rows = [{"step": step, "validation/mixture": loss} for step, loss in enumerate(losses)]
    (folder / "metrics.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in [*rows, {"step": 9}]))
    return folder


def test_the_last_validation_counts(tmp_path):
    assert validation_loss(metrics(tmp_path, 9.0, 1.504)) == 1.504


def test_pairs_are_of_equal_loss_as_far_as_it_is_known():
    require_equal({"sparse": 1.5, "dense": 1.509, "other": None})
    require_equal({"sparse": None, "dense": None})
    with pytest.raises(InputError, match="losses sparse 1.500, dense 1.511; valid: at most 0.01"):
        require_equal({"sparse": 1.5, "other": None, "dense": 1.511})


def test_an_unequal_pair_is_not_even_loaded(tmp_path):
    places = {"sparse": metrics(tmp_path / "a", 1.5), "dense": metrics(tmp_path / "b", 1.6)}
    with pytest.raises(InputError, match="losses sparse 1.500, dense 1.600"):
        load_pair(places)  # there are no models


def test_the_loss_of_a_circuits_model_is_found_by_the_models_weights(tmp_path, monkeypatch):
    circuit = load_circuit(CIRCUIT)
    known = validation_loss(SMALL / "dense")
    monkeypatch.chdir(RESULTS.parents[1])
    assert circuit.provenance["model"] == "experiments/results/small/dense"
    assert loss_of_model(circuit) == known
    monkeypatch.chdir(tmp_path)  # nothing is where the circuit says
    assert loss_of_model(circuit) is None
    for name, loss in (("dense", known), ("sparse", None)):  # but in a folder above it
        (tmp_path / "dense").symlink_to(SMALL / name)
        (tmp_path / "circuits" / "dense").mkdir(parents=True, exist_ok=True)
        below = dataclasses.replace(circuit, folder=str(tmp_path / "circuits" / "dense"))
        assert loss_of_model(below) == loss  # none if that is another model
        (tmp_path / "dense").unlink()


def test_a_study_goes_on_with_the_models_of_before_alone(tmp_path):
    sparse, dense = (load_model(SMALL / name) for name in ("sparse", "dense"))
    keep_models({"sparse": sparse}, tmp_path)
    keep_models({"dense": dense, "sparse": sparse}, tmp_path)
    with pytest.raises(InputError, match="has results of another dense model .*; valid: a new one"):
        keep_models({"dense": sparse}, tmp_path)
    assert set(json.loads((tmp_path / "models.json").read_text())) == {"sparse", "dense"}
