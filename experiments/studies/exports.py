"""The forms that a circuit is exported in: what each is, and which flags it reads."""

import json
from collections.abc import Callable
from typing import NamedTuple

from sparse_jax.circuits.applied import values_of
from sparse_jax.circuits.attribution_graph import attribution_graph
from sparse_jax.circuits.compact_circuit import CompactCircuit
from sparse_jax.circuits.graph import Circuit
from sparse_jax.circuits.picture import circuit_svg
from sparse_jax.circuits.source_check import pairs_of_test
from sparse_jax.interactive import token_ids
from sparse_jax.models.model import Model

# Links of an attribution graph below this share of what reaches a node are left out.
SHARE = 0.01


class Asked(NamedTuple):
    """What the user asked for; None where nothing was said, as the flags of `experiments.export`."""

    task: str | None = None
    prompt: str | None = None
    tolerance: float | None = None
    least: float | None = None


class Format(NamedTuple):
    """A form. make: the circuit of the model as text, or as a model. reads: the fields of `Asked` for it."""

    make: Callable[[Model, Circuit, Asked], str | CompactCircuit]
    reads: tuple[str, ...] = ()


def _code(model: Model, circuit: Circuit, asked: Asked) -> str:
    return circuit.code(model, asked.task, asked.tolerance or 0.0)


def _compact(model: Model, circuit: Circuit, asked: Asked) -> CompactCircuit:
    return circuit.compact(model, _outputs(pairs_of_test(model, circuit, asked.task)))


def _circuit_tracer(model: Model, circuit: Circuit, asked: Asked) -> str:
    pairs = pairs_of_test(model, circuit, asked.task)
    tokens = pairs.tokens[0, 0, : pairs.last[0, 0] + 1]
    if asked.prompt is not None:
        tokens = token_ids(model, asked.prompt)[0]
    least = SHARE if asked.least is None else asked.least
    values = values_of(model, circuit)
    graph = attribution_graph(model, circuit, values, tokens.tolist(), _outputs(pairs), least)
    return json.dumps(graph, allow_nan=False)


def _svg(model: Model, circuit: Circuit, asked: Asked) -> str:
    return circuit_svg(circuit, background="#ffffff")


def _outputs(pairs) -> list[int]:
    """The tokens that are answers of any pair."""
    return sorted(set(pairs.candidates.reshape(-1).tolist()))


FORMATS = {
    "code": Format(_code, ("task", "tolerance")),
    "compact": Format(_compact, ("task",)),
    "circuit-tracer": Format(_circuit_tracer, ("task", "prompt", "least")),
    "svg": Format(_svg),
}
