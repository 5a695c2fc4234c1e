"""Pruning again from other seeds, and without the circuit."""

import dataclasses

import pytest

import sparse_jax as sj
from sparse_jax.faithfulness import again
from sparse_jax.faithfulness.measure import measure_circuit
from sparse_jax.faithfulness.probes import Probe
from sparse_jax.inputs import InputError
from tests.faithfulness.hand_made import PAIRS, TASK, circuit_of
from tests.planted import planted_gates

PRUNING = {
    "steps": 100,
    "pairs_per_step": 4,
    "train_pairs": 8,
    "validation_pairs": 8,
    "test_pairs": 8,
    "learning_rate": 0.008,
    "k_coef": 0.01,
}


def with_settings(circuit):
    return dataclasses.replace(circuit, provenance={**circuit.provenance, "pruning": PRUNING})


def test_pruning_again_finds_the_only_path_from_every_seed_and_no_backup(model, circuit, monkeypatch):
    monkeypatch.setattr(again, "SEEDS", 2)
    card = measure_circuit(model, with_settings(circuit), TASK, PAIRS, again=True)
    assert card.value("prunings from other seeds within the target on the test split", "mean") == 1
    assert card.value("nodes in common with them", "mean") == 1
    assert card.value("edges of these, geometric mean", "mean") == pytest.approx(2)
    assert card.value("backup 1, loss", "mean") > 0.5
    assert "Of prunings from other seeds, 100% reach the target on the test split." in card.verdict
    assert "Without its q, k, v and neurons no circuit reaches the target." in card.verdict
    with pytest.raises(InputError, match="circuit: it does not say how it was found"):
        sj.scorecard(model, circuit, TASK, again=True)


@pytest.mark.parametrize(("told", "swaps"), [({}, False), ({"swaps": True}, True)])
def test_a_circuit_of_before_there_were_swaps_is_pruned_again_without(probe, told, swaps, monkeypatch):
    about = {**probe.circuit.provenance, "pruning": {**PRUNING, **told}}
    probe = dataclasses.replace(probe, circuit=dataclasses.replace(probe.circuit, provenance=about))
    monkeypatch.setattr(again, "_figures", lambda probe, task, settings: settings)
    assert again.pruned_again(probe, TASK).swaps is swaps


def test_a_second_neuron_that_does_the_same_is_found_as_a_backup(
    model, values, circuit, tmp_path, monkeypatch
):
    """Neuron 5 reads and writes what neuron 3 does, so it matters once that one is gone."""
    monkeypatch.setattr(again, "SEEDS", 1)
    mlp = model.params["layers"]["mlp"]
    up = {name: x.at[..., 5].set(x[..., 3]) for name, x in mlp["up"].items()}
    down = {**mlp["down"], "kernel": mlp["down"]["kernel"].at[:, 5].set(mlp["down"]["kernel"][:, 3])}
    layers = {**model.params["layers"], "mlp": {**mlp, "up": up, "down": down}}
    twice = dataclasses.replace(model, params={**model.params, "layers": layers})
    probe = Probe(
        twice,
        with_settings(circuit_of(twice, values, planted_gates(), tmp_path)),
        TASK.encode("test", PAIRS, 0, model.tokenizer, 8),
    )
    figures = {figure.name: figure.interval.value for figure in again.pruned_again(probe, TASK)}
    assert figures["backup 1, loss"] <= 0.15 and figures["backup 1, edges"] == 2
    assert figures["growth of a backup node's effect once the circuit is gone (median, quartiles)"] > 0.3
    assert figures["backup 2, loss"] > 0.5
    # a circuit that has neither of them leaves nothing to forbid
    empty = dataclasses.replace(probe.circuit, nodes=probe.circuit.nodes[:1], edges=())
    assert probe.circuit.nodes[0].site == "mlp_in"
    bare = dataclasses.replace(probe, circuit=empty)
    assert not list(again._backups(bare, TASK, again.from_mapping(again.PruneConfig, PRUNING, "pruning")))
