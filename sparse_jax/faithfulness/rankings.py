"""Four ways to find a program's circuit: learned gates, attribution, weight magnitude, and at random."""

import dataclasses
import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from sparse_jax.ablation.objective import pair_losses
from sparse_jax.circuits.edges import edges_between
from sparse_jax.circuits.gates import Gates, tie
from sparse_jax.faithfulness.planted import PAIRS, TARGET, Program
from sparse_jax.faithfulness.recovery import circuit_overlap, ranking_auroc
from sparse_jax.inputs import require_choice
from sparse_jax.model import sites
from sparse_jax.model.config import ModelConfig
from sparse_jax.pruning.baselines import attribution, random_scores, weight_magnitudes
from sparse_jax.pruning.config import PruneConfig
from sparse_jax.pruning.discretize import discretize_many
from sparse_jax.pruning.lanes import Optimized, make_lanes, optimize_gates
from sparse_jax.pruning.reduce import reduce_edges, reduce_nodes, working_lanes
from sparse_jax.tasks.encode import EncodedPairs
from sparse_jax.trees import Arrays

# How the circuits of programs are searched for: in LANES prunings, of which the best counts.
PRUNE = PruneConfig(
    target_loss=TARGET,
    steps=300,
    pairs_per_step=32,
    train_pairs=PAIRS["train"],
    validation_pairs=PAIRS["validation"],
    test_pairs=PAIRS["test"],
    k_coef=3e-4,
    learning_rate=0.01,
    swaps=False,
)
LANES = 4


class Ranking(NamedTuple):
    """What a method finds.

    nodes, edges: scores, [L, N] by site and [L, Din, Dout] by source and target. gates: of the circuit that
    it settles on, 0/1, of nodes and perhaps of edges.
    """

    nodes: Arrays
    edges: Arrays
    gates: Gates


def learned(program: Program, seed: int) -> Ranking:
    """Gates on nodes, discretized and eliminated, then gates on the edges between them (METHOD 6).

    The scores of nodes are the logits of the best lane. The circuit's edges are pruned inside its nodes, so
    a score of every edge comes from a pruning of its own, of all edges of the full model at once.
    """
    prune = dataclasses.replace(PRUNE, seed=LANES * seed)
    config, params, values = program.model.config, program.model.params, program.values
    judge, train, lanes = program.judge(), program.pairs("train"), make_lanes(prune, LANES)
    found = optimize_gates(config, prune, params, values, [train], lanes, program.name)
    nodes = next(reduce_nodes(judge, working_lanes(found), (TARGET,), prune))
    edges = reduce_edges(judge, train, nodes, prune, lanes, f"{program.name} edges")
    every = edges_between(config, params, {})
    eligible = {key: np.stack([gate] * LANES) for key, gate in every.items()}
    of_all = dataclasses.replace(lanes, eligible=eligible)
    of_edges = optimize_gates(config, prune, params, values, [train], of_all, f"{program.name} all edges")
    return Ranking(tie(_best_lane(found)), _best_lane(of_edges), edges.gates)


def _best_lane(found: Optimized) -> Arrays:
    """The logits of the lane that ends with the lowest objective, loss and penalty together."""
    ends = found.history["loss"][:, -1] + PRUNE.k_coef * found.history["open"][:, -1]
    lane = int(np.argmin(np.where(found.failed, np.inf, ends)))
    return {name: np.asarray(tau)[lane] for name, tau in found.logits.items()}


def by_attribution(program: Program, seed: int) -> Ranking:
    """|gradient x (activation - mean)| of nodes, |derivative of the loss by the gate| of edges."""
    found = attribution(
        program.model.config, program.model.params, program.values, program.pairs("train"), PRUNE
    )
    return _settled(program, found, edge_attribution(program))


def by_magnitude(program: Program, seed: int) -> Ranking:
    """|weight|: of edges their own, of nodes the sum of those at them."""
    edges = {key: np.abs(weight) for key, weight in _weights(program).items()}
    return _settled(program, weight_magnitudes(program.model.config, program.model.params, PRUNE), edges)


def at_random(program: Program, seed: int) -> Ranking:
    """A random order of the nodes, and one of the edges."""
    rng = np.random.default_rng(seed)
    edges = {key: rng.random(weight.shape) for key, weight in _weights(program).items()}
    return _settled(program, random_scores(program.model.config, PRUNE, seed), edges)


METHODS: dict[str, Callable[[Program, int], Ranking]] = {
    "learned": learned,
    "attribution": by_attribution,
    "magnitude": by_magnitude,
    "random": at_random,
}


def measure_recovery(program: Program, method: str, seed: int = 0) -> dict[str, float | None]:
    """How much of the program's circuit a method of METHODS recovers: precision, recall, F1 and AUROC.

    Learned gates settle on a circuit of edges; a ranking settles on the fewest nodes, best first, with which
    the loss reaches TARGET, and all edges between them. Raises InputError for an unknown method.
    """
    require_choice("method", method, METHODS)
    found = METHODS[method](program, seed)
    figures: dict[str, float | None] = {"loss": program.loss(found.gates, "test")}
    scores = {"node": found.nodes, "edge": found.edges}
    for (kind, ranked), agreement in zip(scores.items(), circuit_overlap(program, found.gates)):
        figures |= {f"{kind}_{name}": value for name, value in agreement._asdict().items()}
        figures[f"{kind}_auroc"] = ranking_auroc(program, ranked)
    return figures


def edge_attribution(program: Program) -> dict[str, np.ndarray]:
    """|derivative of a pair's loss by the gate of each edge|, averaged over pairs: [L, Din, Dout].

    With every gate open it is |sum over positions of gradient x weight x (activation - mean)|, the effect of
    closing the edge to first order.
    """
    run = _compiled_edges(program.model.config)
    return jax.device_get(run(program.model.params, dict(program.values), program.pairs("train")))


@functools.cache
def _compiled_edges(config: ModelConfig):
    def loss(gates, params, values, pair):
        one = EncodedPairs(*(array[None] for array in pair))
        return pair_losses(config, params, gates, values, one)[0]

    def run(params, values, pairs):
        gates = {key: jnp.ones(shape) for key, shape in sites.edge_shapes(config).items()}
        found_P = jax.lax.map(lambda pair: jax.grad(loss)(gates, params, values, pair), pairs)
        return jax.tree.map(lambda gradient: jnp.abs(gradient).mean(axis=0), found_P)

    return jax.jit(run)


def _weights(program: Program) -> dict[str, np.ndarray]:
    layers = program.model.params["layers"]
    return {
        sites.edge_key(source, target): np.asarray(layers[sublayer][matrix]["kernel"])
        for source, target, sublayer, matrix in sites.EDGE_MATRICES
    }


def _settled(program: Program, nodes: Arrays, edges: Arrays) -> Ranking:
    (found,) = discretize_many(program.judge(), nodes, (TARGET,))
    return Ranking(tie(nodes), edges, found.gates)
