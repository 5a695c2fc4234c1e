"""The command that explains nodes refuses first what it could not finish."""

import dataclasses
from pathlib import Path
from types import SimpleNamespace

import pytest

import sparse_jax as sj
from experiments import explain
from sparse_jax.inputs import InputError

RESULTS = Path(__file__).parents[2] / "experiments" / "results"
TASK = "while_return_true"


@pytest.mark.parametrize("report", (None, "page.html"))
def test_a_circuit_that_a_report_cannot_take_is_refused_with_one(monkeypatch, report):
    model = sj.load(RESULTS / "small" / "dense")
    found = sj.load_circuit(RESULTS / f"faithfulness/circuits/dense/mean/{TASK}.json", model)
    losses = {name: loss for name, loss in found.losses.items() if name != "target"}
    circuit, task = dataclasses.replace(found, losses=losses), sj.task(TASK)
    monkeypatch.setattr(explain, "REPORT", SimpleNamespace(value=report))
    if report is None:
        explain.check(model, circuit, task)
        return
    with pytest.raises(InputError, match="^circuit: it has no target loss"):
        explain.check(model, circuit, task)
    explain.check(model, dataclasses.replace(circuit, nodes=(), edges=()), task)  # it has no scorecard
