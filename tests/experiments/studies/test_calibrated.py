"""Circuits judged after calibration, in a model whose circuit is known and whose logits are too small."""

import dataclasses

import jax
import numpy as np
import pytest

from experiments.studies import calibrated
from experiments.studies.calibrated import reduce_calibrated
from experiments.studies.comparison import side
from sparse_jax.ablation.judged import circuit_scores
from sparse_jax.faithfulness.probes import Probe
from sparse_jax.inputs import InputError
from sparse_jax.model import sites
from sparse_jax.models.means import save_means
from sparse_jax.pruning.extract import circuit_of
from sparse_jax.pruning.reduce import Reduced
from sparse_jax.pruning.store import Store
from sparse_jax.pruning.subject import Subject
from sparse_jax.tasks.metrics import binary_loss
from sparse_jax.tasks.task_data import task_data
from tests import planted
from tests.commands import ROOT
from tests.planted import CIRCUIT, CONFIG, Planted, planted_model

PRUNE = dataclasses.replace(planted.PRUNE, validation_pairs=8, test_pairs=8)
TASK = Planted("planted", "tests", "which digit is last")


# What a closed node adds to channel 0, which neuron 3 reads, and the embedding takes away.
HELD = 3.0


@pytest.mark.parametrize("held", [False, True])
def test_the_known_circuit_is_left_and_within_the_target_that_only_calibration_reaches(held, tmp_path):
    """And what a closed node carries stays: without it, neuron 3 is silent whatever the prompt."""
    model = planted_model()
    params = jax.tree.map(np.array, model.params)
    params["unembed"]["kernel"] *= 0.05
    if held:
        params["embed"]["kernel"][:, 0] -= HELD
    model = dataclasses.replace(model, params=jax.device_put(params))
    data = task_data(TASK, model.tokenizer, 8, PRUNE.counts)
    shapes = sites.node_shapes(CONFIG, PRUNE.ablation_sites)
    values = {site: np.zeros(shape, np.float32) for site, shape in shapes.items()}
    save_means(values, tmp_path / "means_8.npz", model.fingerprint)
    gates = {site: np.ones(shapes[site], np.float32) for site in PRUNE.sites}
    constants = {"attn_out": np.full(shapes["attn_out"], np.nan)} if held else {}
    if held:
        gates["attn_out"][0, 0], constants["attn_out"][0, 0] = 0, HELD
    subject = Subject(model, values, Store(None))
    scores = {site: np.ones_like(gate) for site, gate in gates.items()}
    whole = Reduced(0.15, gates, scores, {"nodes": 1, "edges": 1}, 0.6, 0.0, False, constants)
    given = circuit_of(subject, data, PRUNE, whole, {"identity": "whole"})
    given = dataclasses.replace(given, folder=str(tmp_path))
    judge = subject.judge(data.validation, PRUNE).holding(constants)
    assert judge.losses(gates).mean() > 0.5

    found = reduce_calibrated(model, given, TASK)
    assert {(node.site, node.index) for node in found.nodes} == set(CIRCUIT) and len(found.edges) == 2
    assert [(node.name, node.mean) for node in given.constants] == [("0.attn_out.0", HELD)] * held
    assert found.constants == given.constants
    assert found.provenance["reached"] and found.provenance["calibrated"]
    assert found.losses["validation"] <= 0.15 and found.losses["calibrated"] <= 0.15
    assert found.losses["circuit"] > 0.5  # as it is
    found = dataclasses.replace(found, folder=str(tmp_path))
    assert circuit_scores(model, found, data.test)[1]["loss"][0] == pytest.approx(found.losses["calibrated"])
    probe, answers = Probe(model, found, data.test), data.test.candidates
    loss = binary_loss(probe.circuit_logits(), answers).mean()
    np.testing.assert_allclose(loss, found.losses["calibrated"], rtol=1e-5)
    unpruned = binary_loss(probe.full_logits, answers).mean()  # the model stays as it is
    np.testing.assert_allclose(unpruned, found.losses["unpruned"], rtol=1e-5)
    assert side(found).circuit == found.losses["calibrated"]  # in tables of circuits
    assert "calibrated 0." in repr(found) and "calibrated" not in repr(given)

    without = tuple(node for node in given.nodes if (node.site, node.index) not in CIRCUIT)
    missed = reduce_calibrated(model, dataclasses.replace(given, nodes=without, edges=()), TASK)
    assert missed.nodes == without and not missed.provenance["reached"]  # nothing is taken from it
    assert missed.losses["validation"] == pytest.approx(np.log(2), abs=1e-3)
    with pytest.raises(InputError, match="valid: a circuit of nodes"):
        reduce_calibrated(model, dataclasses.replace(given, edge_gated=True), TASK)


def test_a_constant_goes_if_a_swap_opens_the_node_that_carries_it(tmp_path, monkeypatch):
    """The open node carries the same, so nothing else tells."""
    model = planted_model()
    params = jax.tree.map(np.array, model.params)
    params["embed"]["kernel"][:, 0] -= HELD
    out = params["layers"]["attn"]["out"]
    out["kernel"][..., 0], out["bias"][:, 0] = 0, HELD
    model = dataclasses.replace(model, params=jax.device_put(params))
    data = task_data(TASK, model.tokenizer, 8, PRUNE.counts)
    shapes = sites.node_shapes(CONFIG, PRUNE.ablation_sites)
    values = {site: np.zeros(shape, np.float32) for site, shape in shapes.items()}
    save_means(values, tmp_path / "means_8.npz", model.fingerprint)
    gates = {site: np.array(gate, np.float32) for site, gate in planted.planted_gates().items()}
    constants = {"attn_out": np.full(shapes["attn_out"], np.nan)}
    constants["attn_out"][0, 0] = HELD
    reduced = Reduced(0.15, gates, gates, {"nodes": 3, "edges": 2}, 0.1, 0.0, True, constants)
    given = circuit_of(Subject(model, values, Store(None)), data, PRUNE, reduced, {"identity": "held"})
    given = dataclasses.replace(given, folder=str(tmp_path))

    def opening(judge, end, *rest):
        opened = end.gates["attn_out"].copy()
        opened[0, 0] = 1
        return end._replace(gates={**end.gates, "attn_out": opened})

    monkeypatch.setattr(calibrated, "swap", opening)
    found = reduce_calibrated(model, given, TASK)
    assert [node.name for node in given.constants] == ["0.attn_out.0"] and found.provenance["reached"]
    assert "0.attn_out.0" in {node.name for node in found.nodes} and found.constants == ()


def test_the_command_keeps_what_is_there_and_refuses_what_comes_from_elsewhere(command, tmp_path):
    pair = "experiments/results/wider_pair"
    of_mean = f"--circuits={pair}/circuits/dense/mean"
    flags = [f"--model={pair}/dense", f"--output={tmp_path}"]
    kept = tmp_path / "indent_for.json"
    kept.write_text((ROOT / pair / "calibrated" / "dense" / "indent_for.json").read_text())
    stamp = kept.stat().st_mtime_ns
    result = command("calibrated", *flags, of_mean, "--tasks=indent_for")
    assert result.returncode == 0, result.stderr
    assert result.stdout == "indent_for: 24 edges, 16 if calibrated; loss on test pairs 0.000\n"
    assert kept.stat().st_mtime_ns == stamp
    other = command("calibrated", *flags, of_mean.replace("/mean", "/strict"), "--tasks=indent_for")
    assert other.returncode == 2 and "comes from another circuit; valid: a new directory" in other.stderr
    elsewhere = [f"--model={pair}/sparse", f"--output={tmp_path / 'new'}", of_mean]
    of_another = command("calibrated", *elsewhere, "--tasks=indent_for")
    assert of_another.returncode == 2 and "circuit: it belongs to model" in of_another.stderr
    assert not list((tmp_path / "new").iterdir())
    unknown = command("calibrated", *flags, of_mean, "--tasks=indent")
    assert unknown.returncode == 2 and "--tasks: 'indent' is unknown" in unknown.stderr
