"""What the nodes of a circuit carry on prompts of its task, in the circuit and in the full model."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from sparse_jax.circuits.applied import check_circuit, circuit_hooks, values_of
from sparse_jax.circuits.graph import Circuit
from sparse_jax.circuits.source_text import token_texts
from sparse_jax.meaning.explain import of_node
from sparse_jax.model.forward import forward
from sparse_jax.model.hooks import Hooks
from sparse_jax.models.model import Model
from sparse_jax.runtime.settings import require_settings
from sparse_jax.tasks.find import Spec, as_task


@dataclasses.dataclass(frozen=True)
class Traces:
    """The values of nodes at every token of some prompts.

    prompts: each as the texts of its tokens; a pair's members follow each other. answers: the right one after
    each. in_circuit, in_model: by node's name, an array [T] for each prompt.
    """

    task: str
    prompts: tuple[tuple[str, ...], ...]
    answers: tuple[str, ...]
    in_circuit: Mapping[str, Sequence[np.ndarray]]
    in_model: Mapping[str, Sequence[np.ndarray]]

    def to_json(self) -> dict[str, Any]:
        """All of it, for a page."""

        def lists(values: Mapping[str, Sequence[np.ndarray]]) -> dict[str, list[list[float]]]:
            return {name: [row.tolist() for row in rows] for name, rows in values.items()}

        texts = {"prompts": [list(prompt) for prompt in self.prompts], "answers": list(self.answers)}
        runs = {"circuit": lists(self.in_circuit), "model": lists(self.in_model)}
        return {"format": "sparse_jax.traces", "version": 1, "task": self.task, **texts, **runs}

    def __repr__(self) -> str:
        return f"Traces({self.task}: {len(self.in_circuit)} nodes on {len(self.prompts)} prompts)"


def trace(model: Model, circuit: Circuit, task: Spec, *, pairs: int = 1, seed: int = 0) -> Traces:
    """What every node carries at each token of `pairs` test pairs, in the circuit and in the full model.

    For a page: `sj.view(circuit, traces=sj.trace(model, circuit, task))`. Raises InputError for a circuit of
    another model.

    >>> import sparse_jax as sj
    >>> model = sj.load("experiments/results/small/sparse")
    >>> path = "experiments/results/faithfulness/circuits/sparse/mean/single_double_quote.json"
    >>> sj.trace(model, sj.load_circuit(path), "single_double_quote")
    Traces(single_double_quote: 17 nodes on 2 prompts)
    """
    require_settings()
    check_circuit(model, circuit)
    chosen = as_task(task)
    encoded = chosen.encode("test", pairs, seed, model.require_tokenizer(), model.config.context)
    tokens, last, candidates = encoded.flat()
    texts = token_texts(model.require_tokenizer(), model.config.vocab_size)
    params, hooks = circuit_hooks(model, circuit, values_of(model, circuit), jnp.asarray(tokens))
    names = tuple(dict.fromkeys(node.site for node in circuit.nodes))
    run = jax.jit(lambda params, hooks: forward(model.config, params, tokens, hooks)[1])
    each = {
        "circuit": jax.device_get(run(params, dataclasses.replace(hooks, capture=names))),
        "model": jax.device_get(run(model.params, Hooks(capture=names))),
    }

    def values(name: str) -> dict[str, list[np.ndarray]]:
        rows = {node.name: of_node(each[name], node) for node in circuit.nodes}
        return {node: [row[: end + 1] for row, end in zip(x, last)] for node, x in rows.items()}

    prompts = tuple(tuple(texts[t] for t in row[: end + 1]) for row, end in zip(tokens, last))
    answers = tuple(texts[token] for token in candidates[:, 0])
    return Traces(chosen.name, prompts, answers, values("circuit"), values("model"))
