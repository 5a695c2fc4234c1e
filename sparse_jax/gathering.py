"""All that a page shows of a circuit, in one call."""

from typing import Any

from sparse_jax.circuits.applied import check_task
from sparse_jax.circuits.graph import Circuit
from sparse_jax.faithfulness.contributions import contributions
from sparse_jax.faithfulness.measure import measure_circuit
from sparse_jax.meaning.explain import Meanings, explain
from sparse_jax.meaning.traces import trace
from sparse_jax.models.model import Model
from sparse_jax.pruning.prunings import prunings
from sparse_jax.pruning.store import search_of
from sparse_jax.tasks.find import Spec, as_task

# Pairs of prompts that values and attention are shown on.
PAIRS = 3


def findings(
    model: Model, circuit: Circuit, task: Spec, *, meanings: Meanings | None = None
) -> dict[str, Any]:
    """Everything that a page shows of a circuit: `sj.view(circuit, **sj.findings(model, circuit, task))`.

    "scorecard" and "contributions" (None for a circuit without a node), "meanings" (those given, or those of
    `sj.explain`), "code", "traces" on three pairs of prompts and "prunings" (None if the search that found
    the circuit is not beside its file). A few minutes on one CPU core, most of them for the scorecard.

    Raises InputError as these do: for a circuit of another model or task, one without a target, and one that
    cannot be told as code.

    >>> import sparse_jax as sj
    >>> model = sj.load("experiments/results/small/sparse")
    >>> path = "experiments/results/faithfulness/circuits/sparse/mean/else_elif.json"
    >>> circuit = sj.load_circuit(path, model)
    >>> found = sj.findings(model, circuit, "else_elif")
    >>> sorted(found)
    ['code', 'contributions', 'meanings', 'prunings', 'scorecard', 'traces']
    >>> sj.view(circuit, **found)
    Page(... characters; shown in a notebook)
    """
    chosen = as_task(task)
    check_task(model, circuit, chosen)
    is_empty = not circuit.nodes
    return {
        "scorecard": None if is_empty else measure_circuit(model, circuit, chosen),
        "meanings": explain(model, circuit, chosen) if meanings is None else meanings,
        "code": circuit.code(model, chosen),
        "traces": trace(model, circuit, chosen, pairs=PAIRS),
        "contributions": None if is_empty else contributions(model, circuit, chosen),
        "prunings": None if search_of(circuit) is None else prunings(model, circuit),
    }
