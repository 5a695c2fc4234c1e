"""Tables of the studies of gates, removal and L0 say what their rows say."""

import dataclasses
from types import SimpleNamespace

import pytest

from experiments.configs import gates, l0, removal
from experiments.studies import removal as removal_study
from experiments.studies.gates import GateRow, write_gates
from experiments.studies.l0 import L0Row, write_l0
from experiments.studies.removal import RemovalRow, measured_removals, write_removals
from sparse_jax.circuits.graph import Circuit
from sparse_jax.inputs import InputError, from_mapping
from sparse_jax.pruning.config import GATES, PruneConfig
from sparse_jax.tasks.built_in import get_task
from sparse_jax.training.config import run_config


def test_means_of_gates_are_over_tasks_that_both_reach(tmp_path):
    row = GateRow("sparse", "one", "step", 0.1, True, 4, 10, 30, 0.1)
    other = dataclasses.replace(row, gate="hard_concrete", edges=40, loss=0.14)
    alone = dataclasses.replace(row, task="two", edges=1000)
    missed = dataclasses.replace(alone, gate="hard_concrete", reached=False)
    table = write_gates([row, other, alone, missed], tmp_path)
    assert "| sparse | step | 0.1 | 2 of 2 | 1 | 30 | 10 | 4 | 0.100 |" in table
    assert "| sparse | hard_concrete | 0.1 | 1 of 2 | 1 | 30 | 40 | 4 | 0.140 |" in table
    assert "| two | sparse | hard_concrete | 0.1 | 30 | missed | 4 | 0.100 |" in table
    assert (tmp_path / "gates.png").stat().st_size > 0


def test_removals_stand_beside_what_suffices(tmp_path):
    row = RemovalRow("dense", "one", 0.05, "", True, 2, 5, 0.01, 1.5, 18, 1, ["0.q.1", "0.v.2"])
    four = dataclasses.replace(row, task="two", units=8, kept=2)
    missed = dataclasses.replace(row, task="three", reached=False, kept=None, shared=None)
    table = write_removals([row, four, missed], tmp_path)
    assert "| one | dense | 0.05 | 2 | 5 | 1 | 18 | 1.500 |" in table
    assert "| three | dense | 0.05 | missed (2) | 5 | - | - | 1.500 |" in table
    assert "| dense | 0.05 | 2 | 4.0 | 6.0 |" in table  # geometric means of 2 and 8, of 18 and 2


def test_removals_of_other_models_are_not_mixed(tmp_path, monkeypatch):
    monkeypatch.setattr(removal_study, "prepare_subject", lambda *given: None)
    given = [], PruneConfig(), (0.05,), tmp_path, tmp_path
    assert list(measured_removals({"dense": SimpleNamespace(fingerprint="aa")}, *given)) == [[]]
    with pytest.raises(InputError, match=r"results of another dense model \(aa there, bb here\)"):
        next(measured_removals({"dense": SimpleNamespace(fingerprint="bb")}, *given))


def test_removals_are_not_compared_with_circuits_of_another_model_or_task(tmp_path):
    (tmp_path / "dense" / "mean").mkdir(parents=True)
    circuit = Circuit((), (), (), {}, {}, {}, {"weights": "bb", "task": "other"})
    circuit.save(tmp_path / "dense" / "mean" / "for_while.json")
    given = [get_task("for_while")], PruneConfig(), (0.05,), tmp_path
    refusals = {"aa": "circuit: it belongs to model bb", "bb": "task: 'for_while' is not valid"}
    for weights, said in refusals.items():
        model = SimpleNamespace(fingerprint=weights, origin="here")
        with pytest.raises(InputError, match=f"^{said}"):
            next(measured_removals({"dense": model}, *given, tmp_path / weights))


def test_models_of_both_methods_are_listed(tmp_path):
    rows = [L0Row("a", "topk", 0.05, 600, 50, 1000, 0, 2.5), L0Row("b", "l0", 20.0, 600, 100, 1000, 3, 3.0)]
    table = write_l0(rows, tmp_path)
    assert "| topk | 0.05 | 600 | 50 | 5.0 % | 0 | 2.500 |" in table
    assert "| l0 | 20 | 600 | 100 | 10.0 % | 3 | 3.000 |" in table


def test_configs_make_what_the_studies_ask_for():
    for size in ("full", "tiny"):
        config = removal.get_config(f"size={size}").to_dict()
        assert from_mapping(PruneConfig, config["pruning"], "pruning").is_removal
        config = gates.get_config(f"size={size}").to_dict()
        assert set(config["gates"]) == set(GATES)
        from_mapping(PruneConfig, config["pruning"], "pruning")
    for size in ("quickstart", "tiny"):
        runs = [run_config(given) for given in l0.get_config(f"size={size}").to_dict()["models"].values()]
        assert {run.sparsity.method for run in runs} == {"topk", "l0"}
        assert len({run.training for run in runs}) == 1
