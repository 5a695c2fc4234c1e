"""Figures of pruning again, from prunings that are made up; test_scorecard.py has real ones."""

import dataclasses

import pytest

from sparse_jax.faithfulness import again
from sparse_jax.faithfulness.scorecard import _of_prunings
from sparse_jax.inputs import InputError
from sparse_jax.pruning.config import PruneConfig
from sparse_jax.tasks.controls import ControlTask
from tests.faithfulness.hand_made import PRUNING, TASK


@pytest.mark.parametrize(("told", "swaps"), [({}, False), ({"swaps": True}, True)])
def test_a_circuit_of_before_there_were_swaps_is_pruned_again_without(probe, told, swaps, monkeypatch):
    about = {**probe.circuit.provenance, "pruning": {**PRUNING, **told}}
    probe = dataclasses.replace(probe, circuit=dataclasses.replace(probe.circuit, provenance=about))
    monkeypatch.setattr(again, "_figures", lambda probe, task, settings, rounds: settings)
    assert again.pruned_again(probe, TASK).swaps is swaps


def test_a_circuit_is_pruned_again_for_its_own_target(probe, monkeypatch):
    about = {**probe.circuit.provenance, "pruning": {**PRUNING, "target_loss": 0.15}}
    circuit = dataclasses.replace(probe.circuit, provenance=about, losses={"target": 0.05})
    assert again.settings_of(circuit).target_loss == 0.05
    with pytest.raises(InputError, match="^circuit: single edges of it were pruned"):
        again.settings_of(dataclasses.replace(circuit, edge_gated=True))


def test_arbitrary_answers_should_not_be_reached_or_take_ten_times_the_edges(probe, monkeypatch):
    about = {"reached": True}
    losses = {"circuit": 0.1, "circuit_error": 0.01}
    edge = probe.circuit.edges[0]
    asked = []

    def found(count, reached=True):
        def pruned(probe, task, settings, label):
            asked.append(task.name)
            return dataclasses.replace(
                probe.circuit,
                edges=(edge,) * count,
                losses=losses,
                provenance={**about, "reached": reached},
            )

        monkeypatch.setattr(again, "_pruned", pruned)
        figures = tuple(again._control(probe, ControlTask.of(TASK, "hashed"), PruneConfig()))
        values = {figure.name: figure.interval for figure in figures}
        return values, list(_of_prunings(values))

    own = len(probe.circuit.edges)
    values, said = found(10 * own)
    assert values == {
        "control hashed, loss": pytest.approx((0.1, 0.0804, 0.1196)),
        "control hashed, edges": (10 * own, None, None),
        "control hashed, times the circuit's edges": (10, None, None),
    }
    assert said == ["Arbitrary answers to its prompts (control hashed) take 10 times its edges."]
    (said,) = found(3 * own)[1]
    assert said.startswith(
        "Arbitrary answers to its prompts (control hashed) take only 3.0 times its edges, "
    )
    values, said = found(0, reached=False)
    assert list(values) == ["control hashed, loss"]
    assert said == ["No circuit gives arbitrary answers to its prompts (control hashed)."]
    assert set(asked) == {"planted.hashed"}
    # of a control there is no control
    monkeypatch.setattr(again, "_seeds", lambda *given: iter(()))
    monkeypatch.setattr(again, "_backups", lambda *given: iter(()))
    assert not list(again._figures(probe, ControlTask.of(TASK, "hashed"), PruneConfig(), 1))
    assert len(list(again._figures(probe, TASK, PruneConfig(), 1))) == 1
