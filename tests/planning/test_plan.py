"""A plan says what a run then really takes, and the largest batch that fits."""

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

from experiments.studies.plan_table import largest_collective, markdown
from sparse_jax.data.config import data_config
from sparse_jax.inputs import InputError
from sparse_jax.model.config import ModelConfig
from sparse_jax.planning import plan
from sparse_jax.planning.footprint import compile_if_it_fits, largest_that_fits
from sparse_jax.planning.plan import plan_pruning, plan_training, plan_update
from sparse_jax.planning.programs import Program
from sparse_jax.planning.report import format_record
from sparse_jax.planning.topologies import find_topology
from sparse_jax.pruning.config import PruneConfig
from sparse_jax.runtime import memory
from sparse_jax.runtime.memory import needed_bytes
from sparse_jax.sparsity.config import SparsityConfig
from sparse_jax.training.config import RunConfig, TrainConfig
from sparse_jax.training.optimizer import OptimizerConfig
from sparse_jax.training.program import train_program

ROOT = Path(__file__).parents[2]
# without AbsTopK, whose searches take long to compile
MODEL = ModelConfig(vocab_size=64, context=16, n_layers=1, d_model=32, activation_fraction=None)
RUN = RunConfig(
    MODEL,
    SparsityConfig(fraction=0.25),
    OptimizerConfig(),
    data_config({"directory": "data", "sources": {"simple_python": {"kind": "simple_python"}}}),
    TrainConfig(steps=100, batch_size=8, mesh_fsdp=2),
)


def devices():
    return jax.devices("cpu")[:4]


@pytest.fixture(scope="module")
def training():
    return plan_training(RUN, find_topology("gpu:h200x4"), devices())


def test_what_is_held_is_what_a_run_holds(training):
    program = train_program(RUN, devices())
    state = jax.jit(program.fresh, out_shardings=program.shardings)()
    first = devices()[0]
    for name, tree in {"parameters": state.params, "optimizer": state.opt_state}.items():
        shards = [s for leaf in jax.tree.leaves(tree) for s in leaf.addressable_shards if s.device == first]
        assert training["memory"][name] == sum(shard.data.nbytes for shard in shards)
    held = sum(training["memory"][name] for name in ("parameters", "optimizer", "batch"))
    assert training["memory"]["peak"] >= held + training["memory"]["temporaries"]


def test_work_and_state_by_hand(training):
    """One layer of width 32, 8 rows of 16 tokens, a vocabulary of 64; parameters in 2 parts, rows in 4."""
    d, tokens, vocabulary = 32, 8 * 16, 64
    products = 4 * d * d + 2 * d * 4 * d + d * vocabulary
    # of 16 keys a token: scores and values; back four gradients, and the scores again
    attention = 2 * 16 * d * tokens
    assert training["flops"] == {"float32": 3 * 2 * products * tokens + (2 + 5) * attention}
    # every kernel is split but the bigram table's [64, 64]
    matrices, whole = products + d * vocabulary, vocabulary * vocabulary
    vectors = training["parameters"] - matrices - whole
    assert 0 < vectors < 20 * d
    assert training["memory"]["parameters"] == 4 * (matrices / 2 + whole + vectors)
    # two rows of 17 tokens
    assert training["memory"]["batch"] == 4 * 2 * 17


def test_time_and_cost_are_those_of_the_token_budget(training):
    assert training["tokens"] == 100 * 8 * 16 and training["steps"] == 100
    least, apart = max(training["seconds"].values()), sum(training["seconds"].values())
    assert training["hours"] == pytest.approx({"least": 100 * least / 3600, "apart": 100 * apart / 3600})
    assert training["dollars"]["least"] == pytest.approx(training["hours"]["least"] * 4 * 10.60)


def test_a_record_is_shown_and_kept(training):
    text = format_record(training)
    assert "no kernel tried out" in text and "8 x 16 tokens fit" in text
    assert json.loads(json.dumps(training)) == training


@pytest.mark.slow
def test_the_largest_batch_that_fits_is_found(monkeypatch, training):
    dense = dataclasses.replace(RUN, sparsity=SparsityConfig())
    asked = dataclasses.replace(dense, training=dataclasses.replace(RUN.training, batch_size=64))
    topology = find_topology("gpu:h200x4")
    limit = training["memory"]["peak"] * 2
    monkeypatch.setattr(plan, "device_memory", lambda _: limit)
    record = plan_training(asked, topology, devices())
    assert not record["fits"] and record["asked"] == 64
    assert 8 < record["batch_size"] < 64 and record["batch_size"] % 4 == 0
    assert record["memory"]["peak"] <= limit
    # the budget of tokens stays
    assert record["steps"] == round(100 * 64 / record["batch_size"])
    assert "DOES NOT FIT; the largest batch that fits is about" in format_record(record)


def test_where_not_even_a_row_a_device_fits_it_says_so(monkeypatch):
    monkeypatch.setattr(plan, "compile_if_it_fits", lambda *_: None)
    monkeypatch.setattr(plan, "largest_that_fits", lambda *_: None)
    record = plan_training(RUN, find_topology("gpu:h200x4"), devices())
    assert record["batch_size"] is None and "no batch fits" in format_record(record)


def test_the_top_k_of_the_weights_moves_no_weight():
    record = plan_update(RUN, find_topology("cpu:4"), devices())
    assert 0 < largest_collective(record["top_k"]) < record["matrix"]
    assert largest_collective(record["dense"]) <= largest_collective(record["top_k"])


@pytest.mark.parametrize(("name", "most"), [("gpu:h200x2", plan.MOST_LANES), ("cpu:2", 1)])
def test_lanes_are_planned_by_the_rule_that_they_are_run_by(monkeypatch, name, most):
    """As many at once as `pruning.program` would run, in the share of the memory that it would take."""
    asked = {}

    def search(build, below, limit):
        asked.update(below=below, limit=limit)

    monkeypatch.setattr(plan, "largest_that_fits", search)
    monkeypatch.setattr(plan, "device_memory", lambda _: 1000)
    record = plan_pruning(RUN, PruneConfig(), find_topology(name), devices()[:2])
    assert asked == {"below": most + 1, "limit": 850}
    assert not record["fits"] and "not even one lane per device" in format_record(record)


def test_simulated_devices_share_what_a_container_leaves(monkeypatch, tmp_path):
    (tmp_path / "memory.max").write_text("9000\n")
    (tmp_path / "memory.current").write_text("1000\n")
    monkeypatch.setattr(memory, "_CGROUP", tmp_path)
    assert plan.device_memory(find_topology("cpu:4")) == 2000
    assert memory.free_bytes(devices()) == 2000 * 0.85


def test_lanes_exchange_nothing():
    prune = PruneConfig(train_pairs=8, pairs_per_step=4, steps=10)
    record = plan_pruning(RUN, prune, find_topology("cpu:2"), devices()[:2])
    assert record["fits"] and record["lanes"] == 2
    assert record["collectives"] == {}
    assert "lanes at once" in format_record(record)


def test_a_mesh_that_does_not_fit_is_refused():
    with pytest.raises(InputError, match="training.mesh"):
        plan_training(
            dataclasses.replace(RUN, training=dataclasses.replace(RUN.training, mesh_fsdp=3)),
            find_topology("cpu:4"),
            devices(),
        )


def rows(count: int) -> Program:
    """Needs memory that grows with `count`."""
    x = jax.ShapeDtypeStruct((count, 1000), jnp.float32)
    return Program(jax.jit(lambda x: jnp.sort(x) @ x.T), (x,), {}, {}, 1)


@pytest.mark.parametrize("most", [1, 2, 3, 11])
def test_the_largest_that_fits(most):
    limit = needed_bytes(compile_if_it_fits(rows(most), 1e12))
    size, compiled = largest_that_fits(rows, 100, limit)
    assert needed_bytes(compiled) <= limit
    # memory may grow faster than predicted, so that a little is left
    assert most * 3 // 4 <= size <= most
    assert largest_that_fits(rows, 100, 100) is None


def test_a_table_has_a_row_for_each_plan(training):
    record = {"d_model": 32, **training}
    lines = markdown([record, record]).splitlines()
    assert len(lines) == 4 and lines[2].startswith("| gpu:h200x4 |")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("topology", "package", "basis"),
    [
        ("v5e-4", "libtpu", "4 devices; compiled by libtpu"),
        ("gpu:h200x4", "jax_cuda13_plugin", "4 devices; compiled for CUDA"),
    ],
)
def test_an_accelerator_is_planned_without_one(topology, package, basis):
    pytest.importorskip(package)
    config = "experiments/configs/pretrain.py:size=tiny,kind=sparse"
    command = [sys.executable, "-m", "experiments.plan", f"--config={config}", f"--topology={topology}"]
    small = ["--config.model.unroll=false", "--config.training.mesh_fsdp=2"]
    done = subprocess.run([*command, *small], cwd=ROOT, capture_output=True, text=True, timeout=1500)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert f"training on {topology}: {basis}" in done.stdout
    assert f"pruning on {topology}: {basis}" in done.stdout
