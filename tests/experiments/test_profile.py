"""What a profile says that instructions cost, against programs of which it is known."""

from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

from experiments.bench.instructions import _own_times, costs, part_rows, profiled
from experiments.bench.train_steps import Runner, Size

SQUARE = jax.ShapeDtypeStruct((64, 32), jnp.float32), jax.ShapeDtypeStruct((32, 128), jnp.float32)


def multiplied(x, w):
    return jnp.tanh(x @ w)


def test_an_instruction_has_its_operations_its_bytes_and_its_function():
    text = jax.jit(multiplied).lower(*SQUARE).compile().as_text()
    found = costs(text, Path(__file__).parent)
    products = [cost for cost in found.values() if cost.flop]
    assert [cost.flop for cost in products] == [2 * 64 * 32 * 128]
    assert products[0].bytes >= 4 * (64 * 32 + 32 * 128 + 64 * 128)
    assert {cost.source for cost in products} == {"test_profile.multiplied"}
    assert {cost.source for cost in costs(text, Path(jax.__file__).parent / "none").values()} == {"elsewhere"}


def test_instructions_in_a_loop_are_counted_as_often_as_they_run():
    def turns(x):
        return jax.lax.fori_loop(0, 7, lambda _, x: jnp.tanh(x @ x), x)

    x = jnp.eye(256)
    step = jax.jit(turns).lower(x).compile()
    text = step.as_text()
    products = {name for name, cost in costs(text, Path(__file__).parent).items() if cost.flop}
    jax.block_until_ready(step(x))
    seconds, runs = profiled(lambda: step(x), "jit_turns")
    assert sum(runs[name] for name in products) == 7
    assert sum(seconds[name] for name in products) > 0
    with pytest.raises(RuntimeError, match="no instruction of jit_other"):
        profiled(lambda: step(x), "jit_other")


def test_what_runs_inside_of_a_span_is_not_its_own_time():
    spans = [(0, 100, "loop"), (10, 30, "a"), (40, 90, "b"), (50, 60, "a"), (120, 130, "c")]
    times = {}
    for name, own in _own_times(spans):
        times[name] = times.get(name, 0) + own
    assert times == {"loop": 100 - 20 - 50, "a": 20 + 10, "b": 40, "c": 10}


@pytest.mark.slow
def test_the_parts_of_a_step_add_up_to_it():
    runner = Runner(Size(d_model=32, n_layers=1, vocab_size=64, context=16, batch_size=2), "sparse")
    runner()
    rows = part_rows(runner, runner.text, 100.0)
    both = [row["share"] for row in rows if row["part"] in ("all products", "all else")]
    assert sum(both) == pytest.approx(1)
    parts = [row for row in rows if row["part"] not in ("all products", "all else")]
    assert sum(row["share"] for row in parts) == pytest.approx(1)
    assert {"topk/rows.abs_top_k", "model/attention.attend"} <= {row["part"] for row in parts}
