"""A reader's hypothesis about a node, tested: replace the node by two levels, as the predicate says."""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from sparse_jax.circuits.applied import check_circuit, circuit_hooks, values_of
from sparse_jax.circuits.graph import Circuit, Node
from sparse_jax.circuits.source_text import token_texts
from sparse_jax.inputs import InputError, nearest
from sparse_jax.meaning.explain import auc
from sparse_jax.meaning.predicates import truth
from sparse_jax.model import sites
from sparse_jax.model.forward import forward
from sparse_jax.model.hooks import Patch
from sparse_jax.models.model import Model
from sparse_jax.tasks.encode import EncodedPairs
from sparse_jax.tasks.metrics import LOSSES


class HypothesisTest(NamedTuple):
    """Task losses in nats of the circuit, of it with the node as the hypothesis says, and without the node.

    high, low: the levels that the node is replaced by where the predicate is true and where it is false, its
    means there. auc: how well the predicate tells where the node is larger. "Without": the node is ablated.
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
    names = {node.name: node for node in circuit.nodes}
    if name not in names:
        raise InputError(f"node: {name!r} is not in the circuit; {nearest(name, names)}")
    return names[name]


def hypothesis_test(
    model: Model, circuit: Circuit, name: str, predicate: str, pairs: EncodedPairs
) -> HypothesisTest:
    """Runs the circuit on the pairs with a node replaced by two levels; see `sj.test_hypothesis`."""
    check_circuit(model, circuit)
    node = node_of(circuit, name)
    tokens, last, _ = pairs.flat()
    texts = token_texts(model.require_tokenizer(), model.config.vocab_size)
    rows = [[texts[token] for token in row] for row in tokens]
    true_BxT = truth([predicate], rows).reshape(tokens.shape)
    values = values_of(model, circuit)
    params, hooks = circuit_hooks(model, circuit, values, jnp.asarray(tokens))

    @jax.jit
    def run(params, where, value):
        patches = {node.site: Patch(where, value)}
        patched = dataclasses.replace(hooks, patches=patches, capture=(node.site,))
        logits, found = forward(model.config, params, tokens, patched)
        return logits[np.arange(len(last)), last], found[node.site]

    shape = (model.config.n_layers, 1, 1, sites.width(model.config, node.site))
    where = np.zeros(shape if sites.in_layers(node.site) else shape[1:], bool)
    where[(node.layer, 0, 0, node.index) if sites.in_layers(node.site) else (0, 0, node.index)] = True

    def loss(where, value_BxT) -> tuple[float, np.ndarray]:
        value = np.asarray(value_BxT, np.float32)[..., None]
        logits, found = jax.device_get(run(params, where, value))
        logits = logits.reshape(*pairs.last.shape, -1)
        return float(np.mean(LOSSES["binary"](logits, pairs.candidates))), found

    nothing = np.zeros(tokens.shape, np.float32)
    circuit_loss, found = loss(np.zeros_like(where), nothing)
    own = (found[node.layer] if sites.in_layers(node.site) else found)[..., node.index]
    real = np.arange(tokens.shape[1]) <= last[:, None]
    high, low = (_mean(own[real & (true_BxT == is_true)], node.mean) for is_true in (True, False))
    told = auc(true_BxT[real][None], own[real][:, None]).item()
    hypothesis, _ = loss(where, np.where(true_BxT, high, low))
    ablated, _ = loss(where, nothing + node.mean)
    return HypothesisTest(node.name, predicate, circuit_loss, hypothesis, ablated, high, low, told)


def _mean(x: np.ndarray, otherwise: float) -> float:
    return float(x.mean()) if x.size else otherwise
