"""All that a page shows of a circuit, in one call."""

from typing import Any

import numpy as np

from sparse_jax.circuits.graph import Circuit
from sparse_jax.faithfulness.contributions import contributions
from sparse_jax.faithfulness.measure import measure_circuit
from sparse_jax.meaning.explain import explain
from sparse_jax.meaning.traces import trace
from sparse_jax.models.model import Model
from sparse_jax.pruning.prunings import prunings
from sparse_jax.pruning.store import search_of
from sparse_jax.tasks.find import Spec, as_task

# Pairs of prompts that values and attention are shown on.
PAIRS = 3


def findings(model: Model, circuit: Circuit, task: Spec, *, text: np.ndarray | None = None) -> dict[str, Any]:
    """Everything that a page shows of a circuit: `sj.view(circuit, **sj.findings(model, circuit, task))`.

    "scorecard", "meanings" (text: as in `sj.explain`), "code", "traces" on three pairs of prompts,
    "contributions" and, if the search that found the circuit is beside its file, "prunings"; else None.
    A minute or two for a circuit of a dozen edges, on one CPU core.

    Raises InputError as these do: for a circuit of another model or task, one without a target or a node,
    and one that cannot be told as code.
    """
    chosen = as_task(task)
    return {
        "scorecard": measure_circuit(model, circuit, chosen),
        "meanings": explain(model, circuit, chosen, text=text),
        "code": circuit.code(model, chosen),
        "traces": trace(model, circuit, chosen, pairs=PAIRS),
        "contributions": contributions(model, circuit, chosen),
        "prunings": None if search_of(circuit) is None else prunings(model, circuit),
    }
