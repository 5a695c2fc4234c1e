"""A step of gate optimization on a random model and random pairs, to be timed."""

import jax
import numpy as np

from experiments.bench.timing import Seconds, best, matmul_gflops
from sparse_jax.model import sites
from sparse_jax.model.config import ModelConfig
from sparse_jax.model.forward import initialize
from sparse_jax.pruning.config import PruneConfig
from sparse_jax.pruning.lanes import make_lanes
from sparse_jax.pruning.prepare import new_states, typed_lanes
from sparse_jax.pruning.program import on_devices, plan_lanes
from sparse_jax.pruning.step import Lane, Shared
from sparse_jax.tasks.encode import EncodedPairs
from sparse_jax.tasks.packing import shortest


def random_task(config: ModelConfig, pairs: int, tokens: int, shared: int) -> Shared:
    """A model and pairs [pairs, 2, tokens] whose members have the first `shared` tokens in common."""
    rng = np.random.default_rng(0)
    drawn = rng.integers(1, config.vocab_size, (pairs, 2, tokens), np.int32)
    drawn[:, 1, :shared] = drawn[:, 0, :shared]
    encoded = EncodedPairs(drawn, np.full((pairs, 2), tokens - 1, np.int32), drawn[..., -2:])
    means = {site: np.zeros(shape, np.float32) for site, shape in sites.node_shapes(config).items()}
    stacked = jax.tree.map(lambda array: array[None], shortest(encoded, config.context))
    return on_devices(Shared(initialize(config, jax.random.key(0)), means, stacked))


def floor_flop(config: ModelConfig, tokens: int) -> float:
    """FLOP of a step: forward and input-gradient products of all tokens, 2 FLOP per weight each."""
    weights = sum(np.prod(shape) for shape in sites.edge_shapes(config).values())
    return 2 * 2.0 * weights * tokens


def without_most(config: ModelConfig, lanes: Lane, part: int) -> Lane:
    """The same lanes with only the first channels of every site trained, and the others closed."""
    shapes = sites.node_shapes(config, sites.LAYER_SITES)
    eligible = {
        site: np.broadcast_to(np.arange(shape[-1]) < shape[-1] // part, (len(lanes.seed), *shape))
        for site, shape in shapes.items()
    }
    return lanes.replace(
        eligible=eligible, fixed={site: np.zeros_like(gate) for site, gate in eligible.items()}
    )


def time_lanes(
    config: ModelConfig,
    prune: PruneConfig,
    shared: Shared,
    count: int,
    part: int,
    steps: int,
    repeats: int,
) -> tuple[Seconds, int]:
    """The best time of a step of each of `count` lanes, and how many of them ran side by side.

    part: only 1 / part of the model's width is left; the other gates have been dropped.
    """
    lanes = typed_lanes(make_lanes(prune, count), prune)
    states = new_states(config, prune, lanes)
    if part > 1:
        lanes = typed_lanes(without_most(config, lanes, part), prune)
    plan = plan_lanes(config, prune, shared, lanes, states, "bench", part)
    groups = -(-count // plan.lanes)
    own, first = (
        jax.tree.map(lambda x: np.resize(x, (plan.lanes, *x.shape[1:])), t) for t in (lanes, states)
    )

    def run():
        return [plan.run(np.int32(steps), shared, own, first) for _ in range(groups)]

    jax.block_until_ready(run())
    return Seconds(*(value / steps / count for value in best(run, repeats))), min(count, plan.lanes)


def lanes_row(
    config: ModelConfig,
    prune: PruneConfig,
    shared: Shared,
    floor: float,
    count: int,
    part: int,
    steps: int,
    repeats: int,
) -> dict[str, object]:
    """What `time_lanes` finds, beside the time of the FLOP of `floor` at the speed of products.

    That speed is the best of before and after. Wall times, and CPU times of all threads ("cpu_").
    """
    before = matmul_gflops()
    seconds, at_once = time_lanes(config, prune, shared, count, part, steps, repeats)
    gflops = [max(pair) for pair in zip(before, matmul_gflops())]
    row = {"lanes": count, "part": part, "side_by_side": at_once}
    row |= {"prunings_per_hour": 3600 / (seconds.wall * prune.steps), "steps_of_a_pruning": prune.steps}
    for kind, value, speed in zip(("", "cpu_"), seconds, gflops):
        row |= {f"{kind}ms_per_lane_step": 1e3 * value, f"{kind}matmul_gflops": speed}
        least = 1e-9 * floor / speed
        row |= {f"{kind}floor_ms": 1e3 * least, f"{kind}times_floor": value / least}
    return row
