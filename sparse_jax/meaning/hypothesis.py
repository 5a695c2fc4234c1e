"""A reader's hypothesis about a node, tested: replace the node by two levels, as the predicate says."""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from sparse_jax.circuits.applied import carried, check_task, circuit_hooks, values_of
from sparse_jax.circuits.graph import Circuit, Node
from sparse_jax.circuits.source_text import token_texts
from sparse_jax.inputs import InputError, nearest, require
from sparse_jax.meaning.explain import auc, of_node
from sparse_jax.meaning.predicates import truth
from sparse_jax.model import sites
from sparse_jax.model.forward import forward
from sparse_jax.model.hooks import Patch
from sparse_jax.models.model import Model
from sparse_jax.runtime.settings import require_settings
from sparse_jax.tasks.find import Spec, as_task
from sparse_jax.tasks.metrics import LOSSES


class HypothesisTest(NamedTuple):
    """Task losses in nats of the circuit, of it with the node as the hypothesis says, and without the node.

    high, low: the levels that the node is replaced by where the predicate is true and where it is false, its
    means there. auc: how well the predicate tells where the node is larger. "Without": the node is ablated to
    what closed nodes of the circuit carry.
    """

    node: str
    predicate: str
    circuit: float
    hypothesis: float
    ablated: float
    high: float
    low: float
    auc: float

    @property
    def explained(self) -> float:
        """The share of the node's effect on the loss that the hypothesis has too; NaN if it has none."""
        whole = self.ablated - self.circuit
        return (self.ablated - self.hypothesis) / whole if abs(whole) > 1e-6 else float("nan")

    def __str__(self) -> str:
        return (
            f"{self.node} as {self.predicate!r} ({self.high:.2f}, else {self.low:.2f}; AUC {self.auc:.2f}): "
            f"{self.hypothesis:.3f} nats; the circuit {self.circuit:.3f}, without the node {self.ablated:.3f}"
        )


def node_of(circuit: Circuit, name: str) -> Node:
    """A node of the circuit by name, "0.v.166". Raises InputError with the nearest name."""
    require(isinstance(name, str), "node", name, 'a name such as "0.v.166"')
    names = {node.name: node for node in circuit.nodes}
    if name not in names:
        raise InputError(f"node: {name!r} is not in the circuit; {nearest(name, names)}")
    return names[name]


def test_hypothesis(
    model: Model,
    circuit: Circuit,
    node: str,
    predicate: str,
    task: Spec,
    *,
    pairs: int = 128,
) -> HypothesisTest:
    """Does a node do what the predicate says? The task loss of the circuit with the node replaced by it.

    Where the predicate is true the node carries its mean over such tokens of the prompts, elsewhere its mean
    over the others. node: by name, "0.v.166". predicate: one of `meaning/predicates.py`, "token is ' in'" or
    "previous token is ' in'".

    Raises InputError for an unknown node or predicate, with the nearest, and a circuit of another model or
    task.

    >>> import sparse_jax as sj
    >>> model = sj.load("experiments/results/small/sparse")
    >>> path = "experiments/results/faithfulness/circuits/sparse/mean/single_double_quote.json"
    >>> circuit = sj.load_circuit(path)
    >>> node, says = "0.attn_out.148", "inside a '...' string"
    >>> sj.test_hypothesis(model, circuit, node, says, "single_double_quote", pairs=8).explained > 0.9
    True
    """
    require_settings()
    found_task = as_task(task)
    check_task(model, circuit, found_task)
    chosen = node_of(circuit, node)
    context, tokenizer = model.config.context, model.require_tokenizer()
    encoded = found_task.encode("test", pairs, 0, tokenizer, context)
    tokens, last, _ = encoded.flat()
    texts = token_texts(tokenizer, model.config.vocab_size)
    rows = [[texts[token] for token in row] for row in tokens]
    true_BxT = truth([predicate], rows).reshape(tokens.shape)
    values = values_of(model, circuit)
    params, hooks = circuit_hooks(model, circuit, values, jnp.asarray(tokens))
    without = float(carried(model, circuit, values)[chosen.site][chosen.place])

    @jax.jit
    def run(params, where, value):
        patches = {chosen.site: Patch(where, value)}
        patched = dataclasses.replace(hooks, patches=patches, capture=(chosen.site,))
        logits, found = forward(model.config, params, tokens, patched)
        return logits[np.arange(len(last)), last], found[chosen.site]

    shape = (model.config.n_layers, 1, 1, sites.width(model.config, chosen.site))
    where = np.zeros(shape if sites.in_layers(chosen.site) else shape[1:], bool)
    where[(chosen.layer, 0, 0, chosen.index) if sites.in_layers(chosen.site) else (0, 0, chosen.index)] = True

    def loss(where, value_BxT) -> tuple[float, np.ndarray]:
        value = np.asarray(value_BxT, np.float32)[..., None]
        logits, found = jax.device_get(run(params, where, value))
        logits = logits.reshape(*encoded.last.shape, -1)
        return float(np.mean(LOSSES["binary"](logits, encoded.candidates))), found

    nothing = np.zeros(tokens.shape, np.float32)
    circuit_loss, found = loss(np.zeros_like(where), nothing)
    own = of_node({chosen.site: found}, chosen)
    real = np.arange(tokens.shape[1]) <= last[:, None]
    high, low = (_mean(own[real & (true_BxT == is_true)], without) for is_true in (True, False))
    told = auc(true_BxT[real][None], own[real][:, None]).item()
    hypothesis, _ = loss(where, np.where(true_BxT, high, low))
    ablated, _ = loss(where, nothing + without)
    return HypothesisTest(chosen.name, predicate, circuit_loss, hypothesis, ablated, high, low, told)


def _mean(x: np.ndarray, otherwise: float) -> float:
    return float(x.mean()) if x.size else otherwise
