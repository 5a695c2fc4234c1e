"""What nodes of a circuit carry and where its heads look on prompts, in the circuit and the full model."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from sparse_jax.circuits.applied import check_task, circuit_hooks, values_of
from sparse_jax.circuits.graph import Circuit
from sparse_jax.circuits.source_text import token_texts
from sparse_jax.meaning.explain import of_node
from sparse_jax.model import sites
from sparse_jax.model.forward import forward
from sparse_jax.model.hooks import Hooks
from sparse_jax.models.model import Model
from sparse_jax.phrases import counted
from sparse_jax.runtime.settings import require_settings
from sparse_jax.tasks.find import Spec, as_task

# A row of attention is uniform if its weights differ by less than this share of the largest.
EVEN = 0.01


@dataclasses.dataclass(frozen=True)
class Head:
    """The attention of one head of a layer: weights [T, T] for each prompt, rows are queries.

    A row may sum to less than 1, since the sink takes the rest.
    """

    layer: int
    number: int
    in_circuit: Sequence[np.ndarray]
    in_model: Sequence[np.ndarray]

    @property
    def is_uniform(self) -> bool:
        """Whether every query of the circuit looks at all tokens so far alike: it only averages values."""
        rows = [row[: t + 1] for pattern in self.in_circuit for t, row in enumerate(pattern)]
        return all(np.ptp(row) <= EVEN * row.max() for row in rows)


@dataclasses.dataclass(frozen=True)
class Traces:
    """The values of nodes at every token of some prompts, and the attention of the heads that have nodes.

    circuit: its fingerprint. prompts: each as the texts of its tokens; a pair's members follow each other.
    answers: the right one after each. in_circuit, in_model: by node's name, an array [T] for each prompt.
    heads: those with a query, key or value channel in the circuit.
    """

    task: str
    circuit: str
    prompts: tuple[tuple[str, ...], ...]
    answers: tuple[str, ...]
    in_circuit: Mapping[str, Sequence[np.ndarray]]
    in_model: Mapping[str, Sequence[np.ndarray]]
    heads: tuple[Head, ...]

    def to_json(self) -> dict[str, Any]:
        """All of it, for a page; of attention, the weights of the tokens so far."""

        def lists(values: Mapping[str, Sequence[np.ndarray]]) -> dict[str, list[list[float]]]:
            return {name: [row.tolist() for row in rows] for name, rows in values.items()}

        texts = {"prompts": [list(prompt) for prompt in self.prompts], "answers": list(self.answers)}
        runs = {"circuit": lists(self.in_circuit), "model": lists(self.in_model)}
        heads = [
            {
                "layer": head.layer,
                "number": head.number,
                "uniform": head.is_uniform,
                "circuit": [_lower(pattern) for pattern in head.in_circuit],
                "model": [_lower(pattern) for pattern in head.in_model],
            }
            for head in self.heads
        ]
        kind = {"format": "sparse_jax.traces", "version": 2, "task": self.task, "of": self.circuit}
        return {**kind, **texts, **runs, "heads": heads}

    def __repr__(self) -> str:
        size, prompts = counted(len(self.in_circuit), "node"), counted(len(self.prompts), "prompt")
        return f"Traces({self.task}: {size} on {prompts})"


def _lower(pattern_TxT: np.ndarray) -> list[list[float]]:
    """The rows of a causal pattern, each up to its own token."""
    return [row[: t + 1].tolist() for t, row in enumerate(pattern_TxT)]


def trace(model: Model, circuit: Circuit, task: Spec, *, pairs: int = 1, seed: int = 0) -> Traces:
    """What nodes carry and where heads look on `pairs` test pairs, in the circuit and in the full model.

    For a page: `sj.view(circuit, traces=sj.trace(model, circuit, task))`. Raises InputError for a circuit of
    another model or task.

    >>> import sparse_jax as sj
    >>> model = sj.load("experiments/results/small/sparse")
    >>> path = "experiments/results/faithfulness/circuits/sparse/mean/single_double_quote.json"
    >>> sj.trace(model, sj.load_circuit(path), "single_double_quote")
    Traces(single_double_quote: 17 nodes on 2 prompts)
    """
    require_settings()
    chosen = as_task(task)
    check_task(model, circuit, chosen)
    encoded = chosen.encode("test", pairs, seed, model.require_tokenizer(), model.config.context)
    tokens, last, candidates = encoded.flat()
    texts = token_texts(model.require_tokenizer(), model.config.vocab_size)
    params, hooks = circuit_hooks(model, circuit, values_of(model, circuit), jnp.asarray(tokens))
    names = (*dict.fromkeys(node.site for node in circuit.nodes), sites.PATTERN)
    run = jax.jit(lambda params, hooks: forward(model.config, params, tokens, hooks)[1])
    each = {
        "circuit": jax.device_get(run(params, dataclasses.replace(hooks, capture=names))),
        "model": jax.device_get(run(model.params, Hooks(capture=names))),
    }

    def values(name: str) -> dict[str, list[np.ndarray]]:
        rows = {node.name: of_node(each[name], node) for node in circuit.nodes}
        return {node: [row[: end + 1] for row, end in zip(x, last)] for node, x in rows.items()}

    def patterns(name: str, layer: int, head: int) -> list[np.ndarray]:
        pattern_BxTxT = each[name][sites.PATTERN][layer, :, head]
        return [pattern[: end + 1, : end + 1] for pattern, end in zip(pattern_BxTxT, last)]

    inside = [node for node in circuit.nodes if node.site in ("q", "k", "v")]
    places = sorted({(node.layer, node.index // model.config.d_head) for node in inside})
    heads = tuple(Head(*at, patterns("circuit", *at), patterns("model", *at)) for at in places)
    prompts = tuple(tuple(texts[t] for t in row[: end + 1]) for row, end in zip(tokens, last))
    answers = tuple(texts[token] for token in candidates[:, 0])
    about = chosen.name, circuit.fingerprint, prompts, answers
    return Traces(*about, values("circuit"), values("model"), heads)
