"""What every node of a circuit does, in tokens, contexts and the best short statement about it."""

import dataclasses
import html
import os
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from scipy.stats import rankdata

from sparse_jax.circuits.applied import check_task, circuit_hooks, values_of
from sparse_jax.circuits.graph import Circuit, Node
from sparse_jax.circuits.source_text import token_texts
from sparse_jax.files import json_text, write_whole
from sparse_jax.inputs import InputError, require, whole_numbers
from sparse_jax.meaning.predicates import PREDICATES, token_predicates, truth
from sparse_jax.model import sites
from sparse_jax.model.forward import Params, check_ids, forward
from sparse_jax.model.hooks import Hooks
from sparse_jax.models.means import text_windows
from sparse_jax.models.model import Model
from sparse_jax.runtime.settings import require_settings
from sparse_jax.tasks.encode import EncodedPairs
from sparse_jax.tasks.find import Spec, as_task

FORMAT = "sparse_jax.meanings"
# A predicate is told if its AUC (or one less it) and the share of the variance that it explains are at least
# these, on text that it was not chosen on.
GOOD, EXPLAINED = 0.9, 0.2
# Contexts are shown at these quantiles of the node's activation.
QUANTILES = (1.0, 0.99, 0.9, 0.5, 0.1, 0.01, 0.0)
# Tokens before the one that a context is of.
REACH = 8
_MOST = 4
_TOKENS = 200
_BATCH = 32
# Sub-layer and matrix of the weight between two sites.
_MATRICES = {(source, target): (sublayer, matrix) for source, target, sublayer, matrix in sites.EDGE_MATRICES}


class Said(NamedTuple):
    """A predicate and, on held-out text, its AUC and the share of the node's variance that it explains.

    auc: how often the node is larger where the predicate is true; below 1/2 it is smaller there.
    """

    predicate: str
    auc: float
    explained: float


class Context(NamedTuple):
    """A token of the text with what stands before it, and the activation there."""

    quantile: float
    before: str
    token: str
    value: float


@dataclasses.dataclass(frozen=True)
class Meaning:
    """What a node does.

    excited_by: what the embedding writes to what it reads, by token, largest and smallest (with the edges'
    weights, if it reads nodes). moves: the logits that it moves directly, likewise. contexts: at QUANTILES of
    its activation in text. answers: by answer of the task, its mean in the circuit at the last token of
    prompts with that answer. said: the best predicate, or None if none is good.
    """

    node: Node
    excited_by: tuple[tuple[str, float], ...]
    moves: tuple[tuple[str, float], ...]
    contexts: tuple[Context, ...]
    answers: Mapping[str, float]
    said: Said | None

    @property
    def difference(self) -> float:
        """Between the answers with the largest and the smallest mean."""
        return max(self.answers.values()) - min(self.answers.values()) if self.answers else 0.0

    def __str__(self) -> str:
        parts = [f"{self.node.name}:"]
        if self.said is not None:
            parts.append(f"{self.said.predicate} (AUC {self.said.auc:.2f});")
        for label, pairs in (("excited by", self.excited_by), ("moves", self.moves)):
            if pairs:
                parts.append(f"{label} {', '.join(f'{text!r} {value:+.2g}' for text, value in pairs)};")
        parts.append(", ".join(f"{value:.2f} before {text!r}" for text, value in self.answers.items()))
        return " ".join(parts).rstrip("; ")


@dataclasses.dataclass(frozen=True)
class Meanings:
    """The meanings of all nodes of a circuit, in its order."""

    circuit: Circuit
    task: str
    nodes: tuple[Meaning, ...]

    def __getitem__(self, name: str) -> Meaning:
        """That of a node by name, "0.v.166". Raises InputError for a node that the circuit does not have."""
        for meaning in self.nodes:
            if meaning.node.name == name:
                return meaning
        known = ", ".join(meaning.node.name for meaning in self.nodes)
        raise InputError(f"node: {name!r} is not in the circuit; valid: {known}")

    @property
    def told(self) -> int:
        """The number of nodes with a good predicate."""
        return sum(one.said is not None for one in self.nodes)

    def to_json(self) -> dict[str, Any]:
        """All of it, as `save` writes it."""
        nodes = [
            {
                "node": one.node.name,
                "said": None if one.said is None else one.said._asdict(),
                "excited_by": one.excited_by,
                "moves": one.moves,
                "answers": dict(one.answers),
                "contexts": [context._asdict() for context in one.contexts],
            }
            for one in self.nodes
        ]
        about = {"task": self.task, "of": self.circuit.fingerprint}
        return {"format": FORMAT, "version": 1, **about, "nodes": nodes}

    def save(self, path: str | os.PathLike) -> None:
        """Writes them as JSON, whole or not at all."""
        write_whole(path, json_text(self.to_json()) + "\n")

    def __repr__(self) -> str:
        return "\n".join(map(str, self.nodes))

    def _repr_html_(self) -> str:
        titles = ("node", "says (AUC)", "excited by", "moves", "before each answer")
        head = f"<tr>{''.join(f'<th>{title}</th>' for title in titles)}</tr>"
        rows = []
        for one in self.nodes:
            said = "" if one.said is None else f"{one.said.predicate} ({one.said.auc:.2f})"
            cells = [one.node.name, said]
            cells += [", ".join(f"{t!r} {x:+.2g}" for t, x in pairs) for pairs in (one.excited_by, one.moves)]
            cells.append(", ".join(f"{text!r} {value:.2f}" for text, value in one.answers.items()))
            rows.append(f"<tr>{''.join(f'<td>{html.escape(cell)}</td>' for cell in cells)}</tr>")
        return f"<table>{head}{''.join(rows)}</table>"


def explain(
    model: Model,
    circuit: Circuit,
    task: Spec,
    *,
    text: np.ndarray | None = None,
    pairs: int = 128,
) -> Meanings:
    """What every node of a circuit does: tokens, logits, contexts, answers and the best short predicate.

    text: token ids [W, T] in which contexts and predicates are looked for; default: windows of the model's
    training text, which is prepared if it is not there. A predicate, such as "inside a string" or "bracket
    depth at least 2" (`meaning/predicates.py`), is chosen on half of the text and measured on the other: it
    is told with its AUC, and not at all if none is good. pairs: of the task's test split, for the answers.
    A table in a notebook; `["0.v.166"]` is one of the nodes.

    Raises InputError for a circuit of another model or task, a text that is unknown, fewer than two windows,
    and tokens that the model does not have.

    >>> import sparse_jax as sj
    >>> model = sj.load("experiments/results/small/sparse")
    >>> path = "experiments/results/faithfulness/circuits/sparse/mean/else_elif.json"
    >>> circuit = sj.load_circuit(path, model)
    >>> text = sj.token_ids(model, ["if x:\\n    y = 3", "for item in items"])
    >>> found = sj.explain(model, circuit, "else_elif", text=text, pairs=8)
    >>> [one.node.name for one in found.nodes]
    ['1.mlp_neuron.893', '1.mlp_out.188']
    """
    require_settings()
    chosen = as_task(task)
    check_task(model, circuit, chosen)
    encoded = chosen.encode("test", pairs, 0, model.require_tokenizer(), model.config.context)
    windows_WxT = text_windows(model, instead=", or text=") if text is None else _windows(model, text)
    texts = token_texts(model.require_tokenizer(), model.config.vocab_size)
    acts_NxM = _activations(model, circuit.nodes, windows_WxT)
    said = best_predicates(acts_NxM, [[texts[token] for token in row] for row in windows_WxT])
    answers = _answers(model, circuit, encoded, texts)
    effects = _Effects(model, circuit)
    return Meanings(
        circuit,
        chosen.name,
        tuple(
            Meaning(
                node,
                _extremes(effects.tokens(number), texts),
                _extremes(effects.logits(number), texts),
                _contexts(acts_NxM[:, number], windows_WxT, texts),
                answers[number],
                said[number],
            )
            for number, node in enumerate(circuit.nodes)
        ),
    )


def _windows(model: Model, text: object) -> np.ndarray:
    valid = "token ids [W, T] of at least 2 windows of text"
    windows_WxT = whole_numbers("text", text, valid)
    fits = windows_WxT.ndim == 2 and len(windows_WxT) >= 2 and windows_WxT.size > 0
    require(fits, "text: shape", windows_WxT.shape, valid)
    check_ids(model.config, windows_WxT, "text")
    return windows_WxT


def _activations(model: Model, nodes: Sequence[Node], windows_WxT: np.ndarray) -> np.ndarray:
    """Of each of M nodes in the full model at all N tokens, [N, M]."""
    if not nodes:
        return np.zeros((windows_WxT.size, 0))
    names = tuple(dict.fromkeys(node.site for node in nodes))
    run = jax.jit(lambda params, rows: forward(model.config, params, rows, Hooks(capture=names))[1])
    parts = []
    for start in range(0, len(windows_WxT), _BATCH):
        found = jax.device_get(run(model.params, windows_WxT[start : start + _BATCH]))
        parts.append(np.stack([of_node(found, node).reshape(-1) for node in nodes], axis=1))
    return np.concatenate(parts)


def of_node(found: Mapping[str, np.ndarray], node: Node) -> np.ndarray:
    """The values [B, T] of a node among those of its site, float32: means of bfloat16 are wrong."""
    x = found[node.site]
    return np.asarray((x[node.layer] if sites.in_layers(node.site) else x)[..., node.index], np.float32)


def best_predicates(acts_NxM: np.ndarray, texts: Sequence[Sequence[str]]) -> list[Said | None]:
    """For each of M nodes the predicate that tells best where it is active, or None if none is good.

    acts: at all tokens of the texts, one text after the other. The one that explains most of the variance in
    the first half of the texts is measured on the other half.
    """
    tokens, counts = np.unique([token for text in texts for token in text], return_counts=True)
    common = tokens[np.argsort(-counts)[:_TOKENS]]
    names = [*PREDICATES, *token_predicates(map(str, common))]
    true_PxN = truth(names, texts)
    half = sum(map(len, texts[: len(texts) // 2]))
    best_M = np.argmax(explained(true_PxN[:, :half], acts_NxM[:half]), axis=0)
    found: list[Said | None] = []
    for column, best in enumerate(best_M):
        held_out = true_PxN[best : best + 1, half:], acts_NxM[half:, column : column + 1]
        said = Said(names[best], auc(*held_out).item(), explained(*held_out).item())
        good = max(said.auc, 1 - said.auc) >= GOOD and said.explained >= EXPLAINED
        found.append(said if good else None)
    return found


def explained(true_PxN: np.ndarray, x_NxM: np.ndarray) -> np.ndarray:
    """[P, M]: the share of the variance of x that lies between true and false tokens.

    >>> explained(np.array([[True, True, False, False]]), np.array([[3.0], [3.0], [1.0], [1.0]])).item()
    1.0
    """
    x_NxM = x_NxM - x_NxM.mean(axis=0)
    share_Px1 = true_PxN.mean(axis=1, keepdims=True)
    mean_PxM = true_PxN.astype(np.float64) @ x_NxM / x_NxM.shape[0]
    between = mean_PxM**2 / np.maximum(share_Px1 * (1 - share_Px1), 1e-12)
    variance_M = np.maximum(x_NxM.var(axis=0), 1e-12)
    return np.where((share_Px1 > 0) & (share_Px1 < 1), between / variance_M, 0.0)


def auc(true_PxN: np.ndarray, x_NxM: np.ndarray) -> np.ndarray:
    """[P, M]: how often x is larger at a true than at a false token, ties counted half; 1/2 if all are alike.

    >>> auc(np.array([[True, True, False, False]]), np.array([[3.0], [1.0], [2.0], [0.0]])).item()
    0.75
    """
    ranks_NxM = rankdata(x_NxM, axis=0)
    n_true = true_PxN.sum(axis=1, keepdims=True).astype(float)
    n_false = true_PxN.shape[1] - n_true
    above = true_PxN.astype(np.float64) @ ranks_NxM - n_true * (n_true + 1) / 2
    pairs = n_true * n_false
    return np.where(pairs > 0, above / np.maximum(pairs, 1), 0.5)


def _answers(
    model: Model, circuit: Circuit, pairs: EncodedPairs, texts: Sequence[str]
) -> list[dict[str, float]]:
    """For each node its mean in the circuit at the last token, by the right answer."""
    tokens, last, candidates = pairs.flat()
    params, hooks = circuit_hooks(model, circuit, values_of(model, circuit), jnp.asarray(tokens))
    names = tuple(dict.fromkeys(node.site for node in circuit.nodes))
    hooks = dataclasses.replace(hooks, capture=names)
    run = jax.jit(lambda params, hooks: forward(model.config, params, tokens, hooks)[1])
    found = jax.device_get(run(params, hooks))
    right = candidates[:, 0]
    at_last = np.arange(len(last)), last
    return [
        {
            texts[token]: float(of_node(found, node)[at_last][right == token].mean())
            for token in np.unique(right).tolist()
        }
        for node in circuit.nodes
    ]


class _Effects:
    """What the embedding says to a node, and it to the logits, along the circuit's edges in sub-layers."""

    def __init__(self, model: Model, circuit: Circuit) -> None:
        self.model, self.circuit = model, circuit
        self.params: Params = jax.tree.map(np.asarray, model.params)
        self.into: dict[int, list[tuple[int, float]]] = {}
        self.out_of: dict[int, list[tuple[int, float]]] = {}
        for edge in circuit.edges:
            weight = self.weight(circuit.nodes[edge.source], circuit.nodes[edge.target])
            self.into.setdefault(edge.target, []).append((edge.source, weight))
            self.out_of.setdefault(edge.source, []).append((edge.target, weight))

    def weight(self, source: Node, target: Node) -> float:
        """The model's weight between two nodes: what an edge of a released list carries is an effect."""
        sublayer, matrix = _MATRICES[source.site, target.site]
        kernel_LxIxO = self.params["layers"][sublayer][matrix]["kernel"]
        return float(kernel_LxIxO[target.layer, source.index, target.index])

    def tokens(self, number: int) -> np.ndarray:
        """[V], by token; zeros for nodes that do not read the stream, directly or by edges from what does."""
        node, params = self.circuit.nodes[number], self.params
        embed = params["embed"]["kernel"]
        if node.site in sites.READER_SITES and node.index < embed.shape[1]:
            if node.site == sites.FINAL_SITE:
                return embed[:, node.index]
            sublayer = node.site.removesuffix("_in")
            return embed[:, node.index] * params["layers"][sublayer]["norm"]["scale"][node.layer, node.index]
        if node.site in ("q", "k", "v", "mlp_neuron"):
            parts = [weight * self.tokens(source) for source, weight in self.into.get(number, [])]
            return np.sum(parts, axis=0) if parts else np.zeros(len(embed))
        return np.zeros(len(embed))

    def logits(self, number: int) -> np.ndarray:
        """[V], by token, per unit of the node; zeros for nodes that do not write, directly or by edges."""
        node, params, tied = self.circuit.nodes[number], self.params, self.model.config.tied_embedding
        unembed = params["embed"]["kernel"].T if tied else params["unembed"]["kernel"]
        if node.site in sites.WRITER_SITES or node.site == sites.FINAL_SITE:
            return params["final_norm"]["scale"][node.index] * unembed[node.index]
        if node.site in ("v", "mlp_neuron"):
            parts = [weight * self.logits(target) for target, weight in self.out_of.get(number, [])]
            return np.sum(parts, axis=0) if parts else np.zeros(unembed.shape[1])
        return np.zeros(unembed.shape[1])


def _extremes(x_V: np.ndarray, texts: Sequence[str]) -> tuple[tuple[str, float], ...]:
    """The tokens with the largest and the smallest value, as far as a third of the extreme."""
    least = np.abs(x_V).max(initial=0.0) / 3
    order = np.argsort(-x_V)
    high = [i for i in order[:_MOST] if x_V[i] > max(least, 1e-6)]
    low = [i for i in order[::-1][:_MOST] if x_V[i] < min(-least, -1e-6)]
    return tuple((texts[i], float(x_V[i])) for i in (*high, *low))


def _contexts(x_N: np.ndarray, windows_WxT: np.ndarray, texts: Sequence[str]) -> tuple[Context, ...]:
    order = np.argsort(x_N, kind="stable")
    found = []
    for quantile in QUANTILES:
        at = int(order[round(quantile * (len(order) - 1))])
        window, place = divmod(at, windows_WxT.shape[1])
        row = windows_WxT[window]
        before = "".join(texts[token] for token in row[max(0, place - REACH) : place])
        found.append(Context(quantile, before, texts[row[place]], float(x_N[at])))
    return tuple(found)
