"""Pruning again from other seeds, and without the circuit."""

import dataclasses

import numpy as np
import pytest

import sparse_jax as sj
from sparse_jax.faithfulness import again
from sparse_jax.faithfulness.intervals import mean_interval
from sparse_jax.faithfulness.measure import measure_circuit
from sparse_jax.faithfulness.probes import Probe, losses_of
from sparse_jax.faithfulness.scorecard import _of_prunings
from sparse_jax.inputs import InputError
from sparse_jax.pruning.config import PruneConfig
from sparse_jax.tasks.controls import ControlTask
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
    # the last digit decides, so that the hash of a whole prompt is beyond this model
    assert card.value("control hashed, loss", "mean") > 0.3
    assert "No circuit gives arbitrary answers to its prompts (control hashed)." in card.verdict
    with pytest.raises(InputError, match="circuit: it does not say how it was found"):
        sj.scorecard(model, circuit, TASK, again=True)
    with pytest.raises(InputError, match="rounds: 0 is not valid; valid: at least 1"):
        sj.scorecard(model, with_settings(circuit), TASK, again=True, rounds=0)
    with pytest.raises(InputError, match="rounds: 3 is not valid; valid: 2, or again=True .--all."):
        sj.scorecard(model, circuit, TASK, rounds=3)


@pytest.mark.parametrize(("told", "swaps"), [({}, False), ({"swaps": True}, True)])
def test_a_circuit_of_before_there_were_swaps_is_pruned_again_without(probe, told, swaps, monkeypatch):
    about = {**probe.circuit.provenance, "pruning": {**PRUNING, **told}}
    probe = dataclasses.replace(probe, circuit=dataclasses.replace(probe.circuit, provenance=about))
    monkeypatch.setattr(again, "_figures", lambda probe, task, settings, rounds: settings)
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
    found = {figure.name: figure for figure in again.pruned_again(probe, TASK)}
    figures = {name: figure.interval.value for name, figure in found.items()}
    assert figures["backup 1, loss"] <= 0.15 and figures["backup 1, edges"] == 2
    growth = "backup 1, growth of its nodes' effects once all before are gone"
    assert figures[f"{growth}: median"] > 0.3
    # by hand: neuron 5 ablated in the full model, and beside neuron 3
    gate = np.zeros((3, *probe.nodes["mlp_neuron"].shape))
    gate[[0, 2], 0, 5] = gate[1:, 0, 3] = 1
    sets = {site: np.zeros((3, *mask.shape)) for site, mask in probe.nodes.items()} | {"mlp_neuron": gate}
    alone, gone, both = losses_of(probe.margins_without(sets))
    (whole,) = losses_of(probe.margins_without({site: 0 * mask[:1] for site, mask in sets.items()}))
    (node,) = found[f"{growth}: median"].by_node
    each = (both - gone) - (alone - whole)
    assert node == "0.mlp_neuron.5"
    assert found[f"{growth}: median"].by_node[node] == pytest.approx(each.mean(), abs=1e-5)
    assert found[f"{growth}: median"].interval == pytest.approx(mean_interval(each), abs=1e-5)
    assert figures[f"{growth}: lower quartile"] == pytest.approx(figures[f"{growth}: median"])
    assert figures["backup 2, loss"] > 0.5
    # a circuit that has neither of them leaves nothing to forbid
    empty = dataclasses.replace(probe.circuit, nodes=probe.circuit.nodes[:1], edges=())
    assert probe.circuit.nodes[0].site == "mlp_in"
    bare = dataclasses.replace(probe, circuit=empty)
    settings = again.from_mapping(again.PruneConfig, PRUNING, "pruning")
    assert not list(again._backups(bare, TASK, settings, 2))
    assert not [
        name for name in rounds_of(again._backups(probe, TASK, settings, 1)) if name[:8] == "backup 2"
    ]


def rounds_of(figures):
    return [figure.name for figure in figures]


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
