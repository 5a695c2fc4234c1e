"""From a trained model and tasks to circuits on disk."""

import dataclasses

import jax
import numpy as np
import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from sparse_jax.circuits.graph import load_circuit
from sparse_jax.data.config import data_config
from sparse_jax.data.corpus import Corpus, SourceTokens
from sparse_jax.data.tokenizer import END_OF_TEXT
from sparse_jax.evaluation.extraction import TaskBeyondModelError, extract_circuit, task_data, task_loss
from sparse_jax.evaluation.suite import prune_tasks, training_windows
from sparse_jax.inputs import InputError
from sparse_jax.pruning.config import PruneConfig
from sparse_jax.pruning.means import load_means
from sparse_jax.sparsity.config import SparsityConfig
from sparse_jax.sparsity.optimizer import OptimizerConfig
from sparse_jax.tasks.pair import Pair
from sparse_jax.tasks.task import Task
from sparse_jax.training.config import RunConfig, TrainConfig
from sparse_jax.training.pretrained import Pretrained
from tests.planted import CIRCUIT, CONFIG, planted_params

PRUNE = PruneConfig(
    steps=200,
    pairs_per_step=4,
    train_pairs=8,
    validation_pairs=4,
    test_pairs=4,
    learning_rate=0.004,
    k_coef=0.01,
    mean_windows=8,
)


class Planted(Task):
    """A task whose tokens are single characters: the last of "1" and "2" decides between "4" and "5"."""

    def pairs(self, split, count, seed):
        rng = np.random.default_rng([len(split), seed])
        starts = ["".join(rng.choice(["6", "7"], 2)) for _ in range(count)]
        return [Pair(start + "1", start + "2", "4", "5") for start in starts]


@pytest.fixture(scope="module")
def pretrained():
    words = {END_OF_TEXT: 0, **{str(i): i for i in range(1, 8)}}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token=END_OF_TEXT))
    tokenizer.decoder = decoders.Fuse()
    tokenizer.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    data = data_config({"sources": {"s": {"kind": "simple_python"}}})
    run = RunConfig(CONFIG, SparsityConfig(), OptimizerConfig(), data, TrainConfig())
    return Pretrained(CONFIG, planted_params(), tokenizer, run, "planted")


@pytest.fixture(scope="module")
def corpus(pretrained):
    tokens = np.random.default_rng(0).integers(0, 8, 400).astype(np.uint16)
    sources = {"a": SourceTokens(tokens, tokens), "b": SourceTokens(tokens[:100] * 0, tokens)}
    return Corpus(pretrained.tokenizer, sources, {"a": 0.75, "b": 0.25}, "", {})


def test_windows_come_from_the_sources_by_weight(corpus):
    windows = training_windows(corpus, 8, 8)
    assert windows.shape == (8, 8)
    assert sorted(bool(row.any()) for row in windows) == [False] * 2 + [True] * 6


def test_the_planted_circuit_is_extracted_saved_and_kept(pretrained, corpus, tmp_path, capsys):
    data = task_data(Planted("planted", "tests", "which digit ends a prompt"), pretrained.tokenizer, 8, PRUNE)
    found = prune_tasks(pretrained, corpus, [data], PRUNE, tmp_path)["planted"]
    assert [(node.site, node.index) for node in found.nodes] == list(CIRCUIT)
    assert found.counts["edges"] == 2 and found.provenance["reached"]
    losses = found.losses
    assert losses["circuit"] <= 0.15 and losses["calibrated"] <= losses["circuit"] + 1e-3
    # the saved losses are what the saved gates and means give
    saved, means = load_circuit(tmp_path / "planted.json"), load_means(tmp_path / "means.npz")
    loss = task_loss(pretrained, data.test, saved.gates(CONFIG), means)
    assert loss == pytest.approx(losses["circuit"], abs=1e-6)
    for node in found.nodes:
        assert node.mean == pytest.approx(means[node.site][node.layer, node.index])
    assert task_loss(pretrained, data.test, {}, {}) == pytest.approx(losses["unpruned"], abs=1e-6)
    assert load_circuit(tmp_path / "planted.json") == dataclasses.replace(
        found, provenance=load_circuit(tmp_path / "planted.json").provenance
    )

    stamp = (tmp_path / "planted.json").stat().st_mtime_ns
    again = prune_tasks(pretrained, corpus, [data], PRUNE, tmp_path)["planted"]
    assert again.nodes == found.nodes and (tmp_path / "planted.json").stat().st_mtime_ns == stamp

    other = dataclasses.replace(PRUNE, steps=7)
    with pytest.raises(InputError, match="was made with other pruning"):
        prune_tasks(pretrained, corpus, [data], other, tmp_path)
    moved = dataclasses.replace(pretrained, params=jax.tree.map(lambda x: x * 1.01, pretrained.params))
    with pytest.raises(InputError, match="was made with other weights"):
        prune_tasks(moved, corpus, [data], PRUNE, tmp_path)
    with pytest.raises(InputError, match="its tokenizer is another now"):
        foreign = dataclasses.replace(corpus, tokenizer=Tokenizer(models.WordLevel({"a": 0}, unk_token="a")))
        prune_tasks(pretrained, foreign, [data], PRUNE, tmp_path)
    assert (tmp_path / "planted.json").stat().st_mtime_ns == stamp


def test_a_task_beyond_the_model_is_said_so_and_left_out(pretrained, corpus, tmp_path, capsys):
    broken = jax.tree.map(lambda leaf: leaf * 0, pretrained.params)
    weak = dataclasses.replace(pretrained, params=broken)
    data = task_data(Planted("planted", "tests", "which digit ends a prompt"), weak.tokenizer, 8, PRUNE)
    with pytest.raises(TaskBeyondModelError, match="0.15 is below the loss 0.693 of the whole model"):
        extract_circuit(weak, data, {}, PRUNE, {})
    assert prune_tasks(weak, corpus, [data], PRUNE, tmp_path) == {}
    assert "planted: left out" in capsys.readouterr().out
    assert not list(tmp_path.glob("*.json"))
