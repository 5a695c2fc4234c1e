"""Every config of the repository resolves to a checked run."""

import dataclasses

import pytest

from experiments.configs import faithfulness, model_size, pretrain, prune, quickstart
from experiments.configs.arguments import parse
from sparse_jax.inputs import InputError, from_mapping
from sparse_jax.model.config import ModelConfig
from sparse_jax.model.forward import param_shapes
from sparse_jax.pruning.config import PruneConfig
from sparse_jax.sparsity.config import SparsityConfig
from sparse_jax.sparsity.rules import sparse_leaves
from sparse_jax.tasks.built_in import TASKS
from sparse_jax.training.config import TrainConfig, run_config
from sparse_jax.training.optimizer import OptimizerConfig


@pytest.mark.parametrize("size", ["tiny", "quickstart", "small", "wide", "paper"])
@pytest.mark.parametrize("kind", ["sparse", "dense"])
def test_every_size_and_kind_makes_a_run(size, kind):
    config = run_config(pretrain.get_config(f"size={size},kind={kind}").to_dict())
    leaves = sparse_leaves(config.sparsity, param_shapes(config.model))
    assert bool(leaves) == (kind == "sparse")


@pytest.mark.parametrize("size", ["tiny", "quickstart"])
def test_the_quickstart_is_whole(size):
    config = quickstart.get_config(f"size={size}").to_dict()
    for side in ("sparse", "dense"):
        run_config(config[side])
    from_mapping(PruneConfig, config["pruning"], "pruning")
    assert set(config["tasks"]) <= set(TASKS)
    assert size == "tiny" or len(config["tasks"]) >= 5


@pytest.mark.parametrize("size", ["tiny", "quickstart"])
def test_models_of_the_size_study_differ_in_what_they_are_named_after(size):
    config = model_size.get_config(f"size={size}").to_dict()
    runs = {name: run_config(sections) for name, sections in config["models"].items()}
    assert len({run.to_json() for run in runs.values()}) == len(runs)
    from_mapping(PruneConfig, config["pruning"], "pruning")
    assert set(config["tasks"]) <= set(TASKS)
    if size == "quickstart":
        assert set(config["changed"]) == {*model_size.CHANGED, "dense"} < set(runs)
        base = runs["d128_16th"]
        assert dataclasses.replace(runs["active_half"], model=base.model) == base
        assert runs["anneal_half"].sparsity.anneal_end == 0.5 != base.sparsity.anneal_end
        assert (runs["d256_64th"].model.d_model, runs["d256_64th"].sparsity.fraction) == (256, 1 / 64)
        widest = runs["d512_256th"].sparsity  # two weights a neuron are all that the fraction allows
        assert (widest.fraction, widest.min_per_channel) == (1 / 256, 2)


def test_the_pruning_config_is_the_default_one():
    assert from_mapping(PruneConfig, prune.get_config().to_dict(), "pruning") == PruneConfig()


def test_every_field_can_be_overridden():
    config = pretrain.get_config("size=quickstart")
    for section, cls in (
        ("model", ModelConfig),
        ("sparsity", SparsityConfig),
        ("optimizer", OptimizerConfig),
        ("training", TrainConfig),
    ):
        assert set(config[section]) == {field.name for field in dataclasses.fields(cls)}
    assert {"paths", "max_bytes"} < set(config.data.sources.python_source)
    config.update_from_flattened_dict({"data.sources.python_source.max_bytes": 7, "training.seed": 3})
    assert run_config(config.to_dict()).model.bigram_table_rank is None
    config.update_from_flattened_dict({"model.bigram_table_rank": 8})
    run = run_config(config.to_dict())
    assert run.model.bigram_table_rank == 8
    assert run.data.sources["python_source"].max_bytes == 7 and run.training.seed == 3


def test_arguments_are_checked():
    choices = {"size": ("small", "big"), "kind": ("a", "b")}
    assert parse("kind=b", choices) == {"size": "small", "kind": "b"}
    assert parse(None, choices) == {"size": "small", "kind": "a"}
    with pytest.raises(InputError, match="'sise' is unknown; did you mean 'size'"):
        parse("sise=big", choices)
    with pytest.raises(InputError, match="config argument 'size=huge': valid: big, small"):
        parse("size=huge", choices)


@pytest.mark.parametrize("size, pairs, place", [("full", 256, "confirmed"), ("tiny", 8, "confirmed_tiny")])
def test_circuits_may_be_confirmed_in_a_study_of_their_own(size, pairs, place):
    config = faithfulness.get_config(f"size={size},recipes=confirmed")
    prune = from_mapping(PruneConfig, config.recipes.confirmed.to_dict(), "recipes.confirmed")
    assert list(config.recipes) == ["confirmed"] and prune.confirmation_pairs == pairs
    assert prune.kinds == ("mean", "resample", "stochastic") and prune.confidence == 1.64
    assert config.workdir == f"runs/faithfulness_{place}"
    both = faithfulness.get_config(f"size={size}")
    assert list(both.recipes) == ["mean", "strict"] and both.recipes.strict.confirmation_pairs == 0
