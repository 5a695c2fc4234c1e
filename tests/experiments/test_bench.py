"""What the benchmarks count and time, against numbers worked by hand."""

import dataclasses
import itertools
import platform
import sys

import jax
import numpy as np
import pytest

from experiments.bench import judging, precision, sparse_products, timing, train_steps
from experiments.bench.lane_steps import floor_flop
from experiments.bench.processor import processor
from experiments.bench.saving import measure
from experiments.bench.scaling_run import measured
from experiments.bench.starting import seconds_to_step
from experiments.bench.timing import interleaved
from experiments.bench.torch_gpt2 import training_step
from experiments.bench.train_steps import SIZES, Runner, Size
from sparse_jax.inputs import InputError
from sparse_jax.model.config import ModelConfig
from tests.pruning.noisy import PAIRS, noisy, random_gates

TINY = Size(d_model=32, n_layers=1, vocab_size=64, context=16, batch_size=2)


def test_the_useful_products_of_a_step_by_hand():
    # 2 layers of 12 * 128^2 and 128 * 512 to the logits; 2 layers of 2 * 128 keys * 128 channels
    assert SIZES["S"].useful_flop == 6 * 32 * 128 * (2 * 196_608 + 65_536 + 2 * 32_768)


@pytest.mark.parametrize("name, fraction", [("S", 1 / 32), ("M", 1 / 64), ("L", 1 / 64)])
def test_no_size_asks_for_fewer_weights_than_every_channel_keeps(name, fraction):
    assert SIZES[name].sparsity("constant").fraction == fraction


def test_calls_take_turns_and_the_median_counts(monkeypatch):
    clock = itertools.count()
    order = []
    monkeypatch.setattr(timing.time, "perf_counter", lambda: next(clock) ** 2)
    monkeypatch.setattr(timing, "_busy_elsewhere", lambda: None)
    seconds, load = interleaved({name: lambda name=name: order.append(name) for name in "ab"}, 3)
    assert order == ["a", "a", "b", "b"] * 3  # the first of two is not counted
    # squares at 1, 2 | 3, 4 | 5, 6 | ... differ by 3, 7, 11, 15, 19, 23, in turns
    assert seconds == {"a": 11, "b": 15}
    assert load is None


@pytest.mark.slow
def test_a_sparse_runner_keeps_its_fraction_and_the_dense_one_all(monkeypatch):
    monkeypatch.setattr(train_steps, "FRACTION", 1 / 4)

    def share(variant):
        runner = Runner(TINY, variant)
        before = runner.state.params["layers"]["mlp"]["up"]["kernel"]
        before = np.asarray(before)
        runner()
        leaf = np.asarray(runner.state.params["layers"]["mlp"]["up"]["kernel"])
        assert np.any(leaf != before)
        return np.count_nonzero(leaf) / leaf.size

    assert share("sparse") == share("weights_only") == 1 / 4
    assert share("dense") == share("activations_only") == 1
    assert 1 / 4 < share("annealing") < 1


@pytest.mark.slow
def test_a_sparse_step_takes_a_tenth_and_a_byte_a_parameter_more_memory_at_most(monkeypatch):
    monkeypatch.setattr(jax, "device_count", lambda: 1)  # as outside of tests, where rows are taken in turns
    sparse, dense = Runner(SIZES["S"], "sparse"), Runner(SIZES["S"], "dense")
    parameters = sum(leaf.size for leaf in jax.tree.leaves(sparse.state.params))
    assert sparse.peak_bytes <= 1.1 * dense.peak_bytes + parameters


def test_the_cost_of_saving_has_a_row_for_every_distance(tmp_path):
    none, often = measure(TINY, [0, 2], steps=4, turns=1, workdir=tmp_path)
    assert none["over_none"] == 1 and "held_ms" not in none
    assert often["every"] == 2 and 0 < often["held_ms"] < 2 * often["ms"]
    assert none["checkpoint_mb"] == often["checkpoint_mb"] > 0.1


def test_only_variants_with_active_shares_have_abs_top_k():
    assert TINY.model(0.25).kept("q") == 8
    assert TINY.model(None).kept("q") is None
    assert jax.tree.leaves(TINY.sparsity("dense").fraction) == [1.0]


def test_the_pytorch_peer_says_what_it_needs(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(InputError, match=r"\.\[torch\]"):
        training_step(TINY)


def test_the_pytorch_peer_learns_and_has_the_weights_that_are_counted():
    pytest.importorskip("torch")
    from experiments.bench.torch_gpt2 import gpt2

    found = sum(p.numel() for name, p in gpt2(64, 16, 1, 32).named_parameters() if p.ndim == 2)
    # 12 d^2 in the layer, tokens and positions, and the way to the logits
    assert found == 12 * 32**2 + 64 * 32 + 16 * 32 + 64 * 32
    step = training_step(TINY)
    first = step()
    assert min(step() for _ in range(50)) < first - 0.5


def test_products_with_a_sparse_matrix_agree_with_the_dense_one(monkeypatch):
    assert set(sparse_products.products(32, 16, 8, 2)) > {"dense", "ell", "bcsr", "scipy"}
    monkeypatch.setattr(
        sparse_products, "_ell", lambda x_KxR, chosen_NxE, values_NxE: x_KxR[chosen_NxE[:, 0]]
    )
    with pytest.raises(AssertionError):
        sparse_products.products(32, 16, 8, 2)


def test_the_floor_of_a_pruning_step_by_hand():
    config = ModelConfig(vocab_size=10, n_layers=2, d_model=8, d_head=4)
    # a layer: four of 8 x 8 in attention, 8 x 32 and 32 x 8 in the MLP; forward and back to the input
    assert floor_flop(config, 5) == 2 * 2 * 5 * 2 * (4 * 64 + 2 * 256)


def test_pairs_are_counted_that_are_run_and_that_would_be(monkeypatch):
    for name in ("SECONDS", "RUN", "OF"):
        monkeypatch.setattr(judging, name, judging.collections.Counter())
    plain, gates = noisy(), random_gates(1)
    fields = [field.name for field in dataclasses.fields(plain)]
    judge = judging.Counting(**{name: getattr(plain, name) for name in fields})
    two = np.zeros((2, 2), np.int32)
    np.testing.assert_array_equal(judge.variants(gates, {}, two), plain.variants(gates, {}, two))
    assert judging.RUN == judging.OF == {"mean": 2 * PAIRS} and judging.SECONDS["mean"] > 0
    assert np.isinf(judge.variants(gates, {}, two, limit=0.0)).all()
    assert judging.OF == {"mean": 4 * PAIRS} and 2 * PAIRS < judging.RUN["mean"] < 4 * PAIRS


CPU_INFO = """processor\t: 0
cpu family\t: 25
model\t\t: 1
model name\t: AMD EPYC
flags\t\t: fpu avx avx2 sse

processor\t: 1
"""


def test_a_row_says_which_cpu_it_is_of(tmp_path):
    (tmp_path / "cpuinfo").write_text(CPU_INFO)
    found = processor(tmp_path / "cpuinfo")
    assert found["cpu"] == "AMD EPYC, family 25 model 1" and found["features"] == ["avx2"]
    (tmp_path / "arm").write_text("processor\t: 0\nFeatures\t: fp asimd bf16\n")
    found = processor(tmp_path / "arm")
    assert found["cpu"] == platform.machine() and found["features"] == ["asimd", "bf16"]
    assert processor(tmp_path / "none").keys() == {"cpu", "cpus"}


def test_a_peer_takes_its_turn_and_all_are_compared_with_it(monkeypatch):
    class Fake:
        compile_seconds, peak_bytes = 1.0, 10

        def __call__(self):
            pass

    monkeypatch.setattr(train_steps, "Runner", lambda size, variant: Fake())
    monkeypatch.setattr(train_steps, "matmul_gflops", lambda dtype: (1.0, 1.0))
    given = {"dense": 4.0, "sparse": 6.0, "annealing": 6.0, "weights_only": 5.0, "activations_only": 3.0}
    monkeypatch.setattr(
        train_steps, "interleaved", lambda calls, repeats: ({name: given.get(name, 2.0) for name in calls}, 0)
    )
    rows = {row["variant"]: row for row in train_steps.step_rows("S", TINY, 1, {"torch": print})}
    assert list(rows) == [*train_steps.VARIANTS, "torch"]
    assert rows["sparse"]["over_torch"] == 3 and rows["torch"]["over_dense"] == 0.5
    assert "peak_gb" in rows["sparse"] and "peak_gb" not in rows["torch"]


@pytest.mark.slow
def test_work_that_is_split_is_timed_on_devices_and_processes():
    one, joined = measured("S", 2, 1, 1), measured("S", 1, 2, 1)
    assert one.keys() == {"train_ms", "lane_step_ms"} and joined.keys() == {"train_ms"}
    assert all(value > 0 for value in [*one.values(), *joined.values()])


@pytest.mark.slow
def test_a_run_ends_after_its_first_step(tmp_path):
    arguments = ["--config=experiments/configs/pretrain.py:size=tiny", "--config.training.steps=2"]
    first, ended = seconds_to_step(arguments, tmp_path / "run", tmp_path / "cache")
    assert 0 < first < ended and (tmp_path / "run" / "metrics.jsonl").exists()
    with pytest.raises(RuntimeError, match="none.py"):
        seconds_to_step(["--config=none.py"], tmp_path / "other", tmp_path / "cache")


@pytest.mark.parametrize("factors, result", precision.TYPES)
def test_a_product_has_the_result_that_its_row_says(factors, result):
    found = precision.product(factors, result, (4, 8, 2))()
    assert found.dtype == result and found.shape == (4, 2)
