"""Makes the rows of a study, from learned circuits and from those of rankings."""

from collections.abc import Sequence

from experiments.studies.circuit_size.rankings import ranked_circuits
from experiments.studies.circuit_size.sizes import MISSED, REACHED, SizeRow
from sparse_jax.circuits.edges import count_edges, count_nodes
from sparse_jax.pruning.config import PruneConfig
from sparse_jax.pruning.prune import Found
from sparse_jax.pruning.recipe import Recipe
from sparse_jax.pruning.subject import Subject
from sparse_jax.tasks.task_data import TaskData


def learned_row(model: str, found: Found, unpruned: float, recipe: Recipe) -> SizeRow:
    """The row of a learned circuit; without sizes if every pruning broke down."""
    key = model, found.data.name, found.target, found.method
    circuit = found.circuit
    if circuit is None:
        prunings = recipe.search.lanes * max(1, recipe.search.rounds)
        return SizeRow(*key, MISSED, unpruned, prunings=prunings)
    about, losses = circuit.provenance, circuit.losses
    return SizeRow(
        *key,
        outcome=REACHED if about["reached"] else MISSED,
        unpruned=unpruned,
        nodes=circuit.counts["nodes"],
        edges=circuit.counts["edges"],
        discretized_nodes=about["discretized"]["nodes"],
        discretized_edges=about["discretized"]["edges"],
        validation=losses["validation"],
        validation_error=losses["validation_error"],
        test=losses["circuit"],
        test_error=losses["circuit_error"],
        prunings=about["prunings"],
    )


def ranked_rows(
    model: str,
    subject: Subject,
    data: TaskData,
    method: str,
    targets: Sequence[float],
    unpruned: float,
    prune: PruneConfig,
    seed: int,
) -> list[SizeRow]:
    """The rows of a baseline ranking; each circuit is measured once on the test split."""
    judge, rows = subject.judge(data.test, prune), []
    found = ranked_circuits(subject, data, method, targets, prune, seed)
    for target, one in zip(targets, found, strict=True):
        test = judge.summary(judge.losses(one.gates))
        rows.append(
            SizeRow(
                model,
                data.name,
                target,
                method,
                outcome=REACHED if one.reached else MISSED,
                unpruned=unpruned,
                nodes=count_nodes(one.gates),
                edges=count_edges(subject.model.params, one.gates),
                validation=one.loss,
                validation_error=one.standard_error,
                test=test.mean,
                test_error=test.standard_error,
            )
        )
    return rows
