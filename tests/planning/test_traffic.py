"""Bytes moved, against programs of which they are known."""

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P

from sparse_jax.planning.estimate import by_kind, dollars, sent_bytes, step_time
from sparse_jax.planning.hlo import parse
from sparse_jax.planning.topologies import CHIPS
from sparse_jax.planning.traffic import Collective, Traffic, bytes_by_instruction, traffic

GUESS = 1000
MEGABYTE = jax.ShapeDtypeStruct((256, 1024), jnp.float32)  # 2**20 bytes


def moved(function, *arguments):
    return traffic(jax.jit(function).lower(*arguments).compile().as_text(), 4, GUESS)


def reduced(times):
    """Sums 2**20 bytes over 4 devices, `times` times."""
    mesh = jax.make_mesh((4,), ("all",), axis_types=(AxisType.Auto,))

    def run(x):
        return jax.lax.fori_loop(0, times, lambda _, x: jnp.tanh(jax.lax.psum(x, "all")), x)

    return jax.shard_map(run, mesh=mesh, in_specs=P(), out_specs=P(), check_vma=False)


def test_an_elementwise_program_reads_and_writes_once():
    found = moved(lambda x: jnp.tanh(x) * 2 + 1, MEGABYTE)
    assert found == Traffic(2 * 2**20, (), 0)


def test_bytes_of_instructions_add_up_to_those_of_a_program_without_loops():
    text = jax.jit(lambda x: jnp.tanh(x).T @ x * 2 + 1).lower(MEGABYTE).compile().as_text()
    found = bytes_by_instruction(parse(text)[0])
    assert sum(found.values()) == traffic(text, 1, GUESS).memory > 6 * 2**20
    assert max(found.values()) < sum(found.values())


def test_a_collective_in_a_loop_counts_as_often_as_it_runs():
    found = moved(reduced(7), MEGABYTE)
    assert found.guessed_loops == 0
    assert by_kind(found.collectives) == {"all-reduce": {"count": 7, "bytes": 7 * 2**20, "largest": 2**20}}
    assert [one.group for one in found.collectives] == [4]


def test_a_loop_of_unknown_length_runs_as_often_as_guessed():
    def halve(x):
        return jax.lax.while_loop(lambda x: jnp.max(x) > 1, lambda x: x / 2, x)

    found = moved(halve, MEGABYTE)
    assert found.guessed_loops == 1
    assert found.memory == pytest.approx(GUESS * 2 * 2**20, rel=0.1)


def test_layers_in_a_loop_move_about_what_they_move_one_by_one():
    """The stacked matrices are given to every turn of the loop, which takes a slice of them."""
    stack = jax.ShapeDtypeStruct((8, 512, 512), jnp.float32)
    x = jax.ShapeDtypeStruct((64, 512), jnp.float32)

    def turns(x, stack, unroll):
        return jax.lax.scan(lambda x, w: (jnp.tanh(x @ w), None), x, stack, unroll=unroll)[0]

    loop, straight = (moved(lambda x, w, n=n: turns(x, w, n), x, stack).memory for n in (1, 8))
    weights = 4 * 8 * 512 * 512
    # a matrix is cut out of the stack, written and read; all of the stack in every turn would be 8 times
    assert weights < straight < 4 * weights
    assert weights < loop < 4 * weights


TPU = """HloModule jit_step, is_scheduled=true

%fused (p.0: f32[8,256,128], p.1: s32[]) -> f32[256,128] {
  %p.0 = f32[8,256,128]{2,1,0:T(8,128)} parameter(0)
  %p.1 = s32[]{:T(128)} parameter(1)
  %zero = s32[] constant(0)
  %slice = f32[1,256,128]{2,1,0:T(8,128)} dynamic-slice(%p.0, %p.1, %zero, %zero)
  ROOT %out = f32[256,128]{1,0:T(8,128)} bitcast(%slice)
}

%body (b: (s32[], f32[8,256,128])) -> (s32[], f32[8,256,128]) {
  %b = (s32[]{:T(128)}, f32[8,256,128]{2,1,0:T(8,128)}) parameter(0)
  %i = s32[]{:T(128)} get-tuple-element(%b), index=0
  %w = f32[8,256,128]{2,1,0:T(8,128)} get-tuple-element(%b), index=1
  %part = f32[256,128]{1,0:T(8,128)S(1)} fusion(%w, %i), kind=kLoop, calls=%fused
  %whole = f32[1024,128]{1,0:T(8,128)} all-gather(%part), replica_groups=[16,4]<=[64], dimensions={0}
  ROOT %next = (s32[]{:T(128)}, f32[8,256,128]{2,1,0:T(8,128)}) tuple(%i, %w)
}

%condition (c: (s32[], f32[8,256,128])) -> pred[] {
  %c = (s32[]{:T(128)}, /*index=1*/f32[8,256,128]{2,1,0:T(8,128)}) parameter(0)
  %j = s32[]{:T(128)} get-tuple-element(%c), index=0
  %limit = s32[]{:T(128)} constant(8)
  ROOT %less = pred[]{:T(512)} compare(%j, %limit), direction=LT
}

ENTRY %main (a: (s32[], f32[8,256,128])) -> (s32[], f32[8,256,128]) {
  %a = (s32[]{:T(128)}, f32[8,256,128]{2,1,0:T(8,128)}) parameter(0)
  ROOT %loop = (s32[]{:T(128)}, f32[8,256,128]{2,1,0:T(8,128)}) while(%a), condition=%condition, body=%body
}
"""


def test_a_program_as_the_compiler_for_tpu_writes_it():
    computations, entry = parse(TPU)
    assert entry == "main" and set(computations) == {"fused", "body", "condition", "main"}
    found = traffic(TPU, 64, GUESS)
    # of the stack only a layer is read, and what is written stays inside the chip
    slice_bytes, counter = 4 * 256 * 128, 4
    assert found.memory == 8 * (slice_bytes + counter)
    assert found.collectives == (Collective("all-gather", 4 * 1024 * 128, 4, 8),)
    assert found.guessed_loops == 0


def entry(*lines):
    """A program that begins with %a, 1 kB, and %b, 3 kB, on each of 4 devices."""
    given = ["%a = f32[250]{0} parameter(0)", "%b = f32[750]{0} parameter(1)"]
    body = "\n  ".join([*given, *lines])
    return f"ENTRY %main (a: f32[250], b: f32[750]) -> f32[] {{\n  {body}\n}}\n"


@pytest.mark.parametrize(
    ("text", "kind", "sent"),
    [
        ("%x = f32[1000]{0} all-gather(%a)", "all-gather", 4000),
        ("%x = (f32[250]{0}, f32[1000]{0}) all-gather-start(%a)", "all-gather", 4000),
        (
            "%x = ((f32[250]{0}, f32[750]{0}), (f32[1000]{0}, f32[3000]{0})) all-gather-start(%a, %b)",
            "all-gather",
            16000,
        ),
        ("%x = (f32[250]{0}, f32[750]{0}) all-reduce(%a, %b)", "all-reduce", 4000),
        ("%x = (f32[250]{0}, f32[750]{0}) all-reduce-start(%a, %b)", "all-reduce", 4000),
        ("%x = ((f32[750]{0}), f32[250]{0}) reduce-scatter-start(%b)", "reduce-scatter", 3000),
        ("%x = f32[250]{0} reduce-scatter(%b)", "reduce-scatter", 3000),
        ("%x = ((f32[750]{0}), f32[750]{0}) all-to-all-start(%b)", "all-to-all", 3000),
        (
            "%x = (f32[250]{0}, f32[250]{0}, u32[], u32[]) collective-permute-start(%a)",
            "collective-permute",
            1000,
        ),
    ],
)
def test_what_a_collective_holds_by_hand(text, kind, sent):
    ended = f"%y = f32[250]{{0}} {kind}-done(%x)"
    found = traffic(entry(f"{text}, replica_groups={{{{0,1,2,3}}}}", ended), 4, GUESS)
    assert found == Traffic(0, (Collective(kind, sent, 4, 1),), 0)


ASYNC = """HloModule jit_step, is_scheduled=true

%begin (p.0: bf16[128,512]) -> (bf16[128,512], bf16[512,512]) {
  %p.0 = bf16[128,512]{1,0} parameter(0)
  %g.0 = bf16[512,512]{1,0} all-gather(%p.0), channel_id=6, replica_groups={{0,1,2,3}}
  ROOT %c.0 = (bf16[128,512]{1,0}, bf16[512,512]{1,0}) custom-call(%g.0), custom_call_target="Start"
}

%meanwhile (p.1: bf16[128,512], p.2: bf16[512,512], p.3: f32[128,128]) -> (f32[128,128], bf16[512,512]) {
  %p.1 = bf16[128,512]{1,0} parameter(0)
  %p.2 = bf16[512,512]{1,0} parameter(1)
  %p.3 = f32[128,128]{1,0} parameter(2)
  %work = f32[128,128]{1,0} tanh(%p.3)
  %g.1 = bf16[512,512]{1,0} all-gather(%p.1), channel_id=6, replica_groups={{0,1,2,3}}
  ROOT %c.1 = (f32[128,128]{1,0}, bf16[512,512]{1,0}) tuple(%work, %g.1)
}

%end (p.4: bf16[128,512], p.5: bf16[512,512]) -> bf16[512,512] {
  %p.4 = bf16[128,512]{1,0} parameter(0)
  %p.5 = bf16[512,512]{1,0} parameter(1)
  %g.2 = bf16[512,512]{1,0} all-gather(%p.4), channel_id=6, replica_groups={{0,1,2,3}}
  ROOT %c.2 = bf16[512,512]{1,0} custom-call(%p.4, %p.5, %g.2), custom_call_target="Done"
}

%all-reduce-scatter (p.6: f32[1024,512]) -> f32[256,512] {
  %p.6 = f32[1024,512]{1,0} parameter(0)
  %sum = f32[1024,512]{1,0} all-reduce(%p.6), channel_id=12, replica_groups={{0,1,2,3}}
  %own = u32[] partition-id()
  %zero = u32[] constant(0)
  ROOT %part = f32[256,512]{1,0} dynamic-slice(%sum, %own, %zero)
}

ENTRY %main (a: bf16[128,512], b: f32[128,128], c: f32[1024,512]) -> f32[256,512] {
  %a = bf16[128,512]{1,0} parameter(0)
  %b = f32[128,128]{1,0} parameter(1)
  %c = f32[1024,512]{1,0} parameter(2)
  %start = (bf16[128,512]{1,0}, bf16[512,512]{1,0}) fusion(%a), kind=kCustom, calls=%begin
  %own.1 = bf16[128,512]{1,0} get-tuple-element(%start), index=0
  %all = bf16[512,512]{1,0} get-tuple-element(%start), index=1
  %both = (f32[128,128]{1,0}, bf16[512,512]{1,0}) fusion(%own.1, %all, %b), kind=kOutput, calls=%meanwhile
  %all.1 = bf16[512,512]{1,0} get-tuple-element(%both), index=1
  %done = bf16[512,512]{1,0} fusion(%own.1, %all.1), kind=kCustom, calls=%end
  ROOT %scattered = f32[256,512]{1,0} fusion(%c), kind=kCustom, calls=%all-reduce-scatter
}
"""


def test_what_goes_on_beside_work_on_a_tpu_counts_once():
    """Three fusions hold the one all-gather; and a reduce-scatter is written as an all-reduce."""
    gather = Collective("all-gather", 2 * 512 * 512, 4, 1)
    scatter = Collective("reduce-scatter", 4 * 1024 * 512, 4, 1)
    assert sorted(traffic(ASYNC, 4, GUESS).collectives) == [gather, scatter]


@pytest.mark.parametrize(
    ("groups", "size"),
    [
        ("{{0,1,2,3},{4,5,6,7}}", 4),
        ("[16,4]<=[64]", 4),
        ("[8,8]<=[8,8]T(1,0)", 8),
        ("mesh['a'=8,'b'=2,'c'=4] {'a','b'}", 16),
        ("{}", 64),
    ],
)
def test_the_devices_of_a_group(groups, size):
    text = TPU.replace("replica_groups=[16,4]<=[64]", f"replica_groups={groups}")
    assert [one.group for one in traffic(text, 64, GUESS).collectives] == [size]


@pytest.mark.parametrize(
    ("kind", "share"),
    [
        ("all-reduce", 1.5),
        ("all-gather", 0.75),
        ("reduce-scatter", 0.75),
        ("all-to-all", 0.75),
        ("collective-permute", 1),
    ],
)
def test_a_ring_of_four_sends(kind, share):
    assert sent_bytes(Collective(kind, 100, 4, 2)) == 2 * share * 100


def test_time_and_money():
    chip = CHIPS["v5e"]
    found = step_time(
        chip, {"bfloat16": 197e12}, Traffic(2 * 819e9, (Collective("all-gather", 4e11, 4, 1),), 0)
    )
    assert found == pytest.approx((1, 2, 3))
    assert dollars(7200, 64, 1.2) == pytest.approx(2 * 64 * 1.2)
