"""Inverse pruning: the fewest nodes without which a model no longer does its task.

A circuit is what suffices; this is what has to be there. A circuit of many nodes may break with a single one,
and a model with backups needs many removed before it does. Gates are trained, ranked, discretized and
eliminated as those of circuits, but open ones say what is ablated (`pruning.objective` "removal"). What is
left of the task is its "knowledge": how far each pair's loss lies below chance, on average.
"""

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

from sparse_jax.circuits.edges import kept_nodes
from sparse_jax.circuits.graph import Node
from sparse_jax.inputs import require
from sparse_jax.pruning.config import PruneConfig
from sparse_jax.pruning.lanes import make_lanes, optimize_gates
from sparse_jax.pruning.reduce import reduce_nodes, working_lanes
from sparse_jax.pruning.subject import Subject
from sparse_jax.tasks.task_data import TaskData


class Removal(NamedTuple):
    """The nodes whose ablation leaves at most `target` nats of knowledge on the validation split.

    units: their number, channel i of q and of k counted once if they share a gate. trained: how many nodes
    the gates' ranking left, before elimination. knowledge, loss: in nats on the test split, without the
    nodes. reached: whether the target is; if not, the nodes are those that leave the least.
    """

    target: float
    nodes: tuple[Node, ...]
    units: int
    trained: int
    knowledge: float
    loss: float
    reached: bool


def find_removals(
    subject: Subject,
    data: TaskData,
    prune: PruneConfig,
    targets: Sequence[float],
    lanes: int = 1,
    label: str = "remove",
) -> list[Removal]:
    """The smallest sets found whose removal leaves at most `targets` nats of knowledge, the strictest first.

    `lanes` prunings that differ in their seed compete. Raises InputError unless `prune.objective` is
    "removal", and if every pruning breaks down.
    """
    require(prune.is_removal, "pruning.objective", prune.objective, "'removal'")
    config, params = subject.model.config, subject.model.params
    runs = make_lanes(prune, lanes)
    found = optimize_gates(
        config, prune, params, subject.values, [data.train], runs, label, text=subject.text
    )
    judge = dataclasses.replace(subject.judge(data.validation, prune), label=label)
    test = subject.judge(data.test, prune)
    left = dataclasses.replace(test, objective="binary")
    removals = []
    fresh = subject.fresh_judge(data, prune)
    for reduced in reduce_nodes(judge, working_lanes(found), targets, prune, fresh):
        nodes = kept_nodes(reduced.gates, subject.values, reduced.scores, config.n_layers)
        removals.append(
            Removal(
                reduced.target,
                nodes,
                sum(not (prune.tied_qk and node.site == "k") for node in nodes),
                reduced.discretized["nodes"],
                test.summary(test.losses(reduced.gates)).mean,
                left.summary(left.losses(reduced.gates)).mean,
                reduced.reached,
            )
        )
    return removals
