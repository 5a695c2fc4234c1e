"""Scores of circuits under one and several ablations, and of circuits of other tasks."""

import dataclasses

import jax
import numpy as np
import pytest

import sparse_jax as sj
from sparse_jax.ablation.judged import circuit_judge
from sparse_jax.model import sites
from sparse_jax.model.hooks import Hooks
from sparse_jax.tasks.metrics import binary_loss
from sparse_jax.tasks.task_data import task_data
from tests.compiled import forward
from tests.faithfulness.hand_made import circuit_of
from tests.planted import CONFIG, PRUNE, Planted, planted_gates, planted_model


@pytest.fixture(scope="module")
def pruned(tmp_path_factory):
    """A tiny model whose circuit is planted, its task, and that circuit as if pruning had found it."""
    model, task = planted_model(), Planted("planted", "tests", "which digit is last")
    tokens = jax.random.randint(jax.random.key(0), (16, 8), 0, 8)
    captured = forward(CONFIG, model.params, tokens, Hooks(capture=sites.NODE_SITES))[1]
    values = {site: np.asarray(x.mean(axis=(-3, -2))) for site, x in captured.items()}
    circuit = circuit_of(model, values, planted_gates(), tmp_path_factory.mktemp("planted"))
    pairs = task_data(task, model.tokenizer, 8, PRUNE.counts).fingerprint
    about = {**circuit.provenance, "pairs": pairs, "pruning": dataclasses.asdict(PRUNE)}
    return model, task, dataclasses.replace(circuit, provenance=about)


def test_a_score_under_several_ablations_is_that_of_the_worst(pruned):
    model, task, circuit = pruned
    alone = {
        kind: sj.score(model, task, circuit=circuit, ablation=kind, pairs=4) for kind in ("mean", "zero")
    }
    worst = max(alone, key=lambda kind: alone[kind].loss)
    for joined in ("mean+zero", "zero+mean"):
        found = sj.score(model, task, circuit=circuit, ablation=joined, pairs=4)
        for name, figures in alone[worst].values.items():
            assert found.values[name] == pytest.approx(figures)
        assert found.of.endswith(f", {worst} ablation (the worst of {joined})")
    with pytest.raises(sj.InputError, match="ablation: 'mean.mean' is not valid; valid: each kind once"):
        sj.score(model, task, circuit=circuit, ablation="mean+mean", pairs=4)


def test_a_score_of_several_draws_is_their_mean(pruned):
    """The first draw is that of a score of one; two draws differ from it."""
    model, task, circuit = pruned
    pairs = task.encode("test", 4, 0, model.tokenizer, model.config.context)
    judge = circuit_judge(model, circuit, pairs, "stochastic", draws=3)
    logits, candidates = judge.logits(circuit.gates(model.config)), judge.candidates
    by_draw = np.asarray(binary_loss(logits, candidates), np.float64).reshape(3, 4)
    found = sj.score(model, task, circuit=circuit, ablation="stochastic", draws=3, pairs=4)
    assert found.loss == pytest.approx(by_draw.mean(), rel=1e-5)
    error = by_draw.mean(axis=0).std(ddof=1) / 2
    assert found.values["loss"][1] == pytest.approx(error, rel=1e-3)
    one = sj.score(model, task, circuit=circuit, ablation="stochastic", pairs=4)
    assert one.loss == pytest.approx(by_draw[0].mean(), rel=1e-5) and one.loss != found.loss
    valid = "valid: 1 with ablation 'mean', which is not random"
    with pytest.raises(sj.InputError, match=f"draws: 2 is not valid; {valid}"):
        sj.score(model, task, circuit=circuit, draws=2, pairs=4)
    with pytest.raises(sj.InputError, match="draws: 2 is not valid; valid: 1 without a circuit"):
        sj.score(model, task, draws=2, pairs=4)


def test_a_score_says_of_which_other_task_the_circuit_is(pruned):
    model, task, circuit = pruned
    assert sj.score(model, task, circuit=circuit, pairs=4).found_for == ""
    other = dataclasses.replace(task, name="other")  # the same pairs under another name
    assert sj.score(model, other, circuit=circuit, pairs=4).found_for == ""
    foreign = dataclasses.replace(circuit, provenance={**circuit.provenance, "pairs": "those of then"})
    found = sj.score(model, other, circuit=foreign, pairs=4)
    assert found.found_for == task.name and f", found for {task.name}" in repr(found)
    assert f"found for {task.name}" in found._repr_html_()
    again = sj.score(model, task, circuit=foreign, pairs=4)
    assert again.found_for == f"other pairs of {task.name}"
