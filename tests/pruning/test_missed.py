"""What is said of a target that no circuit reaches."""

import dataclasses

import numpy as np

from sparse_jax.circuits.graph import Circuit
from sparse_jax.data.corpus import Corpus, SourceTokens
from sparse_jax.model import sites
from sparse_jax.pruning.prune import missed, prune_tasks
from sparse_jax.pruning.recipe import Recipe
from sparse_jax.tasks.task_data import task_data
from tests import planted
from tests.planted import Planted, planted_model


def test_a_target_that_is_missed_is_told_with_the_ablation_that_misses_it(tmp_path, capsys, one_width):
    """Without the only neuron that tells the answers apart."""
    prune = dataclasses.replace(
        planted.PRUNE,
        steps=8,
        mean_windows=8,
        validation_pairs=8,
        test_pairs=8,
        ablation="mean+resample",
        confidence=1.5,
        forbidden=("0.mlp_neuron.3",),
    )
    model = planted_model()
    tokens = np.random.default_rng(0).integers(0, 8, 400).astype(np.uint16)
    corpus = Corpus(model.tokenizer, {"a": SourceTokens(tokens, tokens)}, {"a": 1.0}, "", {})
    data = task_data(Planted("planted", "tests", "which digit is last"), model.tokenizer, 8, prune.counts)
    (circuit,) = prune_tasks(model, corpus, [data], Recipe(prune), tmp_path)
    losses = circuit.losses
    bounds = {
        kind: losses[f"validation, {kind}"] + 1.5 * losses[f"validation, {kind}_error"]
        for kind in ("mean", "resample")
    }
    worst = max(bounds, key=bounds.get)
    assert not circuit.provenance["reached"] and bounds[worst] > 0.15
    said = (
        f"planted: target 0.15 not reached; the closest circuit has {losses['validation']:.3f} nats "
        f"({bounds[worst]:.3f} with 1.5 standard errors) under {worst} ablation, on the validation pairs\n"
    )
    assert said in capsys.readouterr().out


def test_pairs_that_miss_the_target_are_named():
    assert missed(circuit_of({})) == (
        "planted: target 0.15 not reached; the closest circuit has 0.200 nats under mean ablation, "
        "on the validation pairs"
    )
    fresh = {"validation": 0.1, "confirmation": 0.17, "confirmation_error": None}
    assert missed(circuit_of(fresh)).endswith("0.170 nats under mean ablation, on the confirmation pairs")
    within = {"confirmation": 0.1, "confirmation_error": 0.01}
    assert missed(circuit_of(within)).endswith("0.200 nats under mean ablation, on the validation pairs")


def circuit_of(losses):
    own = {"target": 0.15, "validation": 0.2, "validation_error": 0.01, **losses}
    about = {"task": "planted", "reached": False, "pruning": {"confidence": 0.0, "ablation": "mean"}}
    return Circuit((), (), sites.LAYER_SITES, {}, own, {}, about)
